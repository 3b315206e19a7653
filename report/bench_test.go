package report

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// forge makes the record of flow n of a large network: a million subscribers,
// some hundred servers, a month.
func forge(r *rand.Rand, n, of uint64) Record {
	classes := [...]string{"chat", "photo", "audio", "video"}
	k := r.IntN(len(classes))
	start := int64(1393027200e9) + int64(n*(30*86400e9/of))
	rec := Record{
		Start: start, End: start + int64(r.ExpFloat64()*60e9),
		Subscriber: netip.AddrFrom4([4]byte{10, byte(r.IntN(16)), byte(r.IntN(256)), byte(r.IntN(256))}),
		Server:     netip.AddrFrom4([4]byte{198, 18, byte(k), byte(r.IntN(100))}),
		ServerPort: 443, Name: fmt.Sprintf("mmi%d.whatsapp.net", r.IntN(200)), Evidence: "dns", DNSAge: 0.1,
		App: "whatsapp", Class: classes[k], SYNSeen: true, EndReason: "fin", SYN: 1, SYNACK: 1, FIN: 2, OS: "ios",
	}
	rec.Bytes = [2]uint64{uint64(1000 * r.ExpFloat64()), uint64(50000 * r.ExpFloat64())}
	rec.Packets, rec.Payload = [2]uint64{10, 20}, [2]uint64{500, 40000}
	rec.RTTMin[0], rec.RTTHandshake[0] = 0.1+0.001*r.Float64(), 0.11
	return rec
}

func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	records := make([]Record, 100_000)
	for i := range records {
		records[i] = forge(r, uint64(i), uint64(len(records)))
	}
	b.ReportAllocs()
	b.ResetTimer()
	c := NewCollector(Options{})
	for i := range b.N {
		c.Add(&records[i%len(records)])
	}
}
