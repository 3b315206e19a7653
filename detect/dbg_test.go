package detect
import "testing"
func TestDbg(t *testing.T){
	c:=&trialCases[6]
	from:=whens[0].bin
	tr := trial{net: newNetwork(100, 20000, c.groups...), days: 3, fail: &c.fail, from: from, to: from + c.hours*12}
	tr.run()
	for _,e:=range tr.everything{t.Log(describe(&e))}
}
