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

  // Do not change a range that the user has zoomed into.
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

  const element = (tag, content, kind) => {
    const made = document.createElement(tag);
    made.textContent = content;
    if (kind) made.className = kind;
    return made;
  };

  const showState = update => {
    document.getElementById("state").textContent = update.state;
    document.getElementById("tiles").replaceChildren(...update.tiles.map(([name, value, note]) => {
      const tile = element("div", "", "tile");
      tile.append(element("dt", name), element("dd", value), element("dd", note, "note"));
      return tile;
    }));
  };

  const show = (doc, update) => {
    showState(update);
    for (const [name, chart] of Object.entries(update.pictures)) {
      const place = document.getElementById(name);
      if (chart !== null) {
        place.hidden = false;
        place.closest("section").hidden = false;
        place.querySelector(".unit").textContent = chart.unit;
        place.querySelector("figcaption .note").textContent = chart.note;
        draw(doc.get_model_by_name(name), chart);
      }
    }
    document.body.dataset.state = update.ended ? "ended" : "running";
  };

  const documents = () => new Promise(resolve => {
    const poll = () => Bokeh.documents.length ? resolve(Bokeh.documents[0]) : setTimeout(poll, 20);
    poll();
  });

  const follow = async () => {
    const doc = await documents();
    for (let number = 0; ;) {
      let update;
      try {
        const response = await fetch(`daskmr/data?after=${number}&viewer=${viewer}`, {cache: "no-store"});
        if (response.status === 204) continue;
        if (!response.ok) throw new Error(response.statusText);
        number = Number(response.headers.get("X-Number"));
        update = await response.json();
      } catch (error) {
        document.getElementById("state").textContent =
          "The connection was lost. This is the last known state.";
        document.body.dataset.state = "lost";
        return;
      }
      show(doc, update);
      if (update.ended) return;
    }
  };
  follow();
})();
