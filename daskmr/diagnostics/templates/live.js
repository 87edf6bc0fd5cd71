"use strict";
(() => {
  const viewer = Math.random().toString(36).slice(2);
  const ranges = new Map();

  const parts = figure => ({
    "figure": figure, "x": figure.x_range, "y": figure.y_range,
    "x-format": figure.below[0].formatter, "y-axis": figure.left[0],
    "y-ticks": figure.left[0].ticker,
    "legend": figure.above.find(part => part.type === "Legend"),
  });

  const settable = properties => {
    const {major_label_overrides: labels, ...rest} = properties;
    if (labels === undefined) return rest;
    return {...rest, major_label_overrides: new Map(Object.entries(labels).map(([k, v]) => [Number(k), v]))};
  };

  // A range that somebody has zoomed into is left as it is.
  const zoomed = (range, name) => {
    const last = ranges.get(range);
    return name === "x" && last !== undefined && (range.start !== last.start || range.end !== last.end);
  };

  const draw = (figure, chart) => {
    for (const [name, columns] of Object.entries(chart.sources))
      figure.renderers.find(renderer => renderer.name === name).data_source.data = columns;
    const of = parts(figure);
    for (const [name, properties] of Object.entries(chart.settings)) {
      const part = of[name];
      if (part === undefined || zoomed(part, name)) continue;
      part.setv(settable(properties));
      if (name === "x") ranges.set(part, properties);
    }
  };

  const words = (tag, content, kind) => {
    const element = document.createElement(tag);
    element.textContent = content;
    if (kind) element.className = kind;
    return element;
  };

  const tell = news => {
    document.getElementById("state").textContent = news.state;
    document.getElementById("tiles").replaceChildren(...news.tiles.map(([name, value, note]) => {
      const tile = words("div", "", "tile");
      tile.append(words("dt", name), words("dd", value), words("dd", note, "note"));
      return tile;
    }));
  };

  const show = (doc, news) => {
    tell(news);
    for (const [name, chart] of Object.entries(news.pictures)) {
      const place = document.getElementById(name);
      if (chart !== null) {
        place.hidden = false;
        place.closest("section").hidden = false;
        place.querySelector(".unit").textContent = chart.unit;
        place.querySelector("figcaption .note").textContent = chart.note;
        draw(doc.get_model_by_name(name), chart);
      }
    }
    document.body.dataset.state = news.ended ? "ended" : "running";
  };

  const documents = () => new Promise(resolve => {
    const look = () => Bokeh.documents.length ? resolve(Bokeh.documents[0]) : setTimeout(look, 20);
    look();
  });

  const follow = async () => {
    const doc = await documents();
    for (let number = 0; ;) {
      let news;
      try {
        const answer = await fetch(`daskmr/data?after=${number}&viewer=${viewer}`, {cache: "no-store"});
        if (answer.status === 204) continue;
        if (!answer.ok) throw new Error(answer.statusText);
        number = Number(answer.headers.get("X-Number"));
        news = await answer.json();
      } catch (error) {
        document.getElementById("state").textContent =
          "There is no connection any more. This is how the run was last seen.";
        document.body.dataset.state = "lost";
        return;
      }
      show(doc, news);
      if (news.ended) return;
    }
  };
  follow();
})();
