from daskmr.data.kept.entry import *
from daskmr.data.segments import SegmentWriter, read_frames
import os, pytest
def test_round(tmp_path):
    (tmp_path/"seg").mkdir(); (tmp_path/"keep").mkdir(); (tmp_path/"run2").mkdir()
    w=SegmentWriter(str(tmp_path/"seg")); a=w.write([(b"x"*1000,1000)]); b=w.write([(b"y"*10,10),(b"z",1)]); w.close()
    w2=SegmentWriter(str(tmp_path/"seg")); c=w2.write([(b"c",1)]); w2.close()
    for n,res in enumerate(([1,a,b],[a,b,c],["none",b"bytes"])):
        path=str(tmp_path/"keep"/f"{n}")
        size=write_entry(path,res)
        assert size==os.path.getsize(path)
        got=read_entry(path,str(tmp_path/"run2"))
        for one,other in zip(res,got,strict=True):
            if hasattr(one,"path"): assert [*read_frames(one)]==[*read_frames(other)]
            else: assert one==other
        data=bytearray(open(path,"rb").read()); data[len(data)//3]^=1; open(path+"x","wb").write(data)
        with pytest.raises(DamagedEntryError): read_entry(path+"x",str(tmp_path/"run2"))
