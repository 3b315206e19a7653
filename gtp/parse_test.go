package gtp

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// text writes what a message says, in a fixed order, so that a table row can
// hold it.
func (m *Message) text() string {
	var b strings.Builder
	add := func(format string, a ...any) { fmt.Fprintf(&b, " "+format, a...) }
	fmt.Fprintf(&b, "%s teid=%x seq=%x", m.Kind(), m.TEID, m.Seq)
	if m.Cause != 0 {
		add("cause=%d", m.Cause)
	}
	for _, d := range []struct {
		name string
		d    Digits
	}{{"imsi", m.IMSI}, {"msisdn", m.MSISDN}, {"imei", m.IMEI}} {
		if d.d != 0 {
			add("%s=%s", d.name, clearDigits(d.d))
		}
	}
	if len(m.APN()) > 0 {
		add("apn=%s", m.APN())
	}
	if m.RAT != 0 {
		add("rat=%d", m.RAT)
	}
	if m.UEv4 != (Addr{}) {
		add("v4=%s", addrText(m.UEv4))
	}
	if m.UEv6 != (Addr{}) {
		add("v6=%s/%d", addrText(m.UEv6), m.UEv6Prefix)
	}
	if m.EBI != 0 {
		add("ebi=%d", m.EBI)
	}
	if m.Secondary {
		add("linked=%d", m.LinkedNSAPI)
	}
	if m.EBIs != 0 {
		add("ebis=%b", m.EBIs)
	}
	for _, f := range []struct {
		name string
		on   bool
	}{{"handover", m.Handover}, {"teardown", m.Teardown}, {"local", m.localRelease}} {
		if f.on {
			add("%s", f.name)
		}
	}
	for _, c := range m.Bearers[1:m.NumBearers] {
		add("[%d/%d cause=%d]", c.Instance, c.EBI, c.Cause)
	}
	for _, e := range m.Endpoints[:m.NumEndpoints] {
		add("%d:%s/%x@%d", e.slot, addrText(e.Addr), e.ID, e.Bearer)
		b.WriteString([]string{"?", "+", "-"}[e.Direction])
	}
	return b.String()
}

func addrText(a Addr) string {
	if a.Is4() {
		return fmt.Sprintf("%d.%d.%d.%d", byte(a.Lo>>24), byte(a.Lo>>16), byte(a.Lo>>8), byte(a.Lo))
	}
	return fmt.Sprintf("%x:%x", a.Hi, a.Lo)
}

func s1(v slot) string { return fmt.Sprint(uint8(v)) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

var parseRows = []struct {
	name    string
	pfcp    bool
	b       []byte
	verdict Verdict
	text    string
}{
	// GTPv1-C
	{
		"v1 create request", false,
		v1msg(16, 0, 0x130b, v1imsi("460004100000101"), tv(3, 1, 2, 3, 4, 5, 6), tv(14, 176), tv(15, 1),
			v1teid(16, 0x32f02bf9), v1teid(17, 0x32f02bfa), tv(20, 5), v1eua(), tlv(131, labels("EEtest")...),
			tlv(133, 192, 169, 100, 1), tlv(133, 192, 169, 100, 2), tlv(134, append([]byte{0x91}, tbcd("8615221000101")...)...),
			tlv(151, 2), tlv(154, tbcd("3572200924513839")...)),
		OK, "gtpv1_create_pdp_context_request teid=0 seq=130b imsi=460004100000101 msisdn=8615221000101 imei=3572200924513839 apn=eetest rat=2 ebi=5" +
			" " + s1(slotCtlAccess) + ":192.169.100.1/32f02bfa@0? " + s1(slotRAN) + ":192.169.100.2/32f02bf9@5-",
	},
	{
		"v1 create response, dual stack, alternative addresses of the other family", false,
		v1msg(17, 7, 1, tv(1, 128), v1teid(16, 9), v1teid(17, 8), tv(20, 5), tv(127, 0, 0, 0, 1),
			v1eua("10.0.0.1", "2001:db8::1"), tlv(133, 10, 1, 1, 1), tlv(133, 10, 1, 1, 2),
			tlv(133, raw("fd00::1")...), tlv(133, raw("fd00::2")...)),
		OK, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 v4=10.0.0.1 v6=20010db800000000:1/64 ebi=5" +
			" " + s1(slotCtlPGW) + ":10.1.1.1/8@0? " + s1(slotCtlPGW) + ":fd00000000000000:1/8@0?" +
			" " + s1(slotPGW) + ":10.1.1.2/9@5+ " + s1(slotPGW) + ":fd00000000000000:2/9@5+",
	},
	{
		"v1 IPv6 only", false,
		v1msg(17, 7, 1, tv(1, 128), v1eua("2001:db8::1")),
		OK, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 v6=20010db800000000:1/64",
	},
	{
		"v1 address of an organisation that is not the IETF (PPP)", false,
		v1msg(17, 7, 1, tv(1, 128), tlv(128, 0xf0, 1, 10, 0, 0, 1)),
		OK, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128",
	},
	{
		"v1 one GSN address serves both", false,
		v1msg(17, 7, 1, tv(1, 128), v1teid(16, 9), v1teid(17, 8), tlv(133, 10, 1, 1, 1)),
		OK, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 " + s1(slotCtlPGW) + ":10.1.1.1/8@0? " + s1(slotPGW) + ":10.1.1.1/9@0+",
	},
	{
		"v1 secondary: two NSAPIs", false,
		v1msg(16, 8, 2, v1teid(16, 11), tv(20, 6), tv(20, 5), tlv(133, 10, 0, 0, 1), tlv(133, 10, 0, 0, 2)),
		OK, "gtpv1_create_pdp_context_request teid=8 seq=2 ebi=6 linked=5 " + s1(slotRAN) + ":10.0.0.2/b@6-",
	},
	{
		"v1 delete with teardown", false, v1msg(20, 8, 3, tv(19, 0xff), tv(20, 5)),
		OK, "gtpv1_delete_pdp_context_request teid=8 seq=3 ebi=5 teardown",
	},
	{
		"v1 unknown TV ends the reading, what came before holds", false,
		v1msg(17, 7, 1, tv(1, 128), tv(20, 5), tv(99, 1, 2, 3), tv(20, 6)),
		UnknownIE, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 ebi=5",
	},
	{
		"v1 unknown TLV is skipped", false,
		v1msg(17, 7, 1, tv(1, 128), tlv(250, 1, 2, 3), tv(20, 5)),
		OK, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 ebi=5",
	},
	{
		"v1 extension header type list has a length of one octet", false,
		v1msg(17, 7, 1, tv(1, 128), []byte{141, 2, 0xc0, 0xc1}, tv(20, 5)),
		OK, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 ebi=5",
	},
	{
		"v1 every TV of known length is stepped over", false,
		v1msg(18, 7, 1, everyTV(), tv(20, 5)),
		OK, "gtpv1_update_pdp_context_request teid=7 seq=1 ebi=5",
	},
	{
		"v1 header extensions", false,
		unhex("36 15 000a 00000007 0001 00 c0  01 0102 00 01 80"),
		OK, "gtpv1_delete_pdp_context_response teid=7 seq=1 cause=128",
	},
	{"v1 extension of length 0", false, unhex("36 15 000a 00000007 0001 00 c0  00 0102 00 01 80"), BadHeader, ""},
	{"v1 extension beyond the end", false, unhex("36 15 000a 00000007 0001 00 c0  09 0102 00 01 80"), BadHeader, ""},
	{
		"v1 without sequence number", false, unhex("30 01 0000 00000007"),
		OK, "gtpv1_echo_request teid=7 seq=0",
	},
	{"v1 optional fields cut off", false, unhex("32 10 0004 00000007 00"), TooShort, ""},
	{"GTP' has protocol type 0", false, unhex("2e 01 0000 00000007"), NotGTPC, ""},
	{"GTPv0", false, unhex("1e 10 004f 10010000 ff ffffff 4200212143658709"), NotGTPC, ""},
	{"version 7", false, unhex("f2 10 0000 00000007"), BadVersion, ""},
	{"nothing", false, nil, TooShort, ""},
	{"three octets", false, unhex("321000"), TooShort, ""},
	{"v1 element beyond the end", false, v1msg(17, 7, 1, []byte{131, 0, 9, 1}), BadIE, ""},
	{"v1 TLV without its length", false, v1msg(17, 7, 1, []byte{131, 0}), BadIE, ""},
	{"v1 type list without its length", false, v1msg(17, 7, 1, []byte{141}), BadIE, ""},
	{"v1 TV beyond the end", false, v1msg(17, 7, 1, []byte{2, 1}), BadIE, ""},
	{
		"v1 cut frame: what is there holds", false, cut(v1msg(17, 7, 1, tv(1, 128), tv(20, 5), v1teid(16, 9)), 2),
		Cut, "gtpv1_create_pdp_context_response teid=7 seq=1 cause=128 ebi=5",
	},
	{
		"v1 octets after the message are not read", false, append(v1msg(21, 7, 1, tv(1, 128)), 20, 5),
		OK, "gtpv1_delete_pdp_context_response teid=7 seq=1 cause=128",
	},
	{
		"v1 unknown type", false, v1msg(200, 7, 1), OK, "gtpv1_other teid=7 seq=1",
	},

	// GTPv2-C
	{
		"v2 create session request on S11", false,
		v2msg(32, 0, 1, ie(1, tbcd("901700000021309")...), ie(76, tbcd("896745214365")...), ie(75, tbcd("3572200924513839")...),
			ie(86, 0x18, 1, 2, 3), ie(82, 6), ie(77, 0x20, 0, 0), fteid(0, 10, 1, "127.0.0.2"), fteid(1, 7, 0, "127.0.0.4", "::1"),
			ie(71, labels("Internet.mnc070.mcc901.gprs")...), paa("0.0.0.0"), bearer(0, 5, ie(80, 1, 2, 3))),
		OK, "gtpv2_create_session_request teid=0 seq=1 imsi=901700000021309 msisdn=896745214365 imei=3572200924513839 apn=internet rat=6 v4=0.0.0.0 ebi=5 handover [0/5 cause=0] " +
			s1(slotCtlAccess) + ":127.0.0.2/1@0? " + s1(slotCtlPGW) + ":127.0.0.4/0@0? " + s1(slotCtlPGW) + ":0:1/0@0?",
	},
	{
		"v2 create session response, dual stack, EBI after the F-TEID", false,
		v2msg(33, 1, 1, cause2(16), paa("10.45.0.2", "2001:db8:1::1"),
			iei(93, 0, slices.Concat(fteid(0, 1, 0x22, "10.0.0.6"), fteid(2, 5, 0x23, "10.0.0.7"), cause2(16), ie(73, 5))...)),
		OK, "gtpv2_create_session_response teid=1 seq=1 cause=16 v4=10.45.0.2 v6=20010db800010000:1/64 ebi=5 [0/5 cause=16] " +
			s1(slotSGWAccess) + ":10.0.0.6/22@5+ " + s1(slotPGW) + ":10.0.0.7/23@5+",
	},
	{
		"v2 IPv6 only", false, v2msg(33, 1, 1, cause2(16), paa("2001:db8::9")),
		OK, "gtpv2_create_session_response teid=1 seq=1 cause=16 v6=20010db800000000:9/64",
	},
	{
		"v2 unknown interface types are kept by level and number", false,
		v2msg(35, 1, 1, cause2(16), fteid(0, 61, 5, "10.0.0.1"), bearer(0, 5, fteid(0, 62, 6, "10.0.0.2"))),
		OK, "gtpv2_modify_bearer_response teid=1 seq=1 cause=16 [0/5 cause=0] " +
			s1(slotUnknownControl|61) + ":10.0.0.1/5@0? " + s1(slotUnknownUser|62) + ":10.0.0.2/6@5?",
	},
	{
		"v2 PMIPv6 keys are no TEIDs", false, v2msg(35, 1, 1, bearer(0, 5, fteid(0, 8, 6, "10.0.0.2"))),
		OK, "gtpv2_modify_bearer_response teid=1 seq=1 [0/5 cause=0]",
	},
	{
		"v2 delete bearer request: linked bearer and list", false, v2msg(99, 1, 4, ie(73, 5), iei(73, 1, 6), iei(73, 1, 7)),
		OK, "gtpv2_delete_bearer_request teid=1 seq=4 ebi=5 ebis=11000000",
	},
	{
		"v2 without TEID", false, unhex("40 01 0009 000001 00 03 0001 00 07"),
		OK, "gtpv2_echo_request teid=0 seq=1",
	},
	{
		"v2 scope indication", false, v2msg(36, 1, 4, ie(77, 0x08, 0x02)),
		OK, "gtpv2_delete_session_request teid=1 seq=4 local",
	},
	{
		"v2 unknown and vendor elements are skipped", false,
		v2msg(36, 1, 4, ie(255, 0, 1, 2, 3), ie(254, 1, 44, 9), ie(200), ie(73, 5)),
		OK, "gtpv2_delete_session_request teid=1 seq=4 ebi=5",
	},
	{
		"v2 empty elements", false, v2msg(33, 1, 1, ie(1), ie(2), ie(71), ie(73), ie(77), ie(79), ie(82), ie(87), bearer(0, 5, ie(73), ie(87))),
		OK, "gtpv2_create_session_response teid=1 seq=1 ebi=5 [0/5 cause=0]",
	},
	{
		"v2 F-TEID that says more addresses than it has", false,
		v2msg(35, 1, 1, bearer(0, 5, ie(87, 0xc0, 0, 0, 0, 1, 10, 0, 0, 1))),
		OK, "gtpv2_modify_bearer_response teid=1 seq=1 [0/5 cause=0]",
	},
	{"v2 element beyond the end", false, v2msg(33, 1, 1, []byte{1, 0, 9, 0, 1}), BadIE, ""},
	{"v2 element header cut", false, v2msg(33, 1, 1, []byte{1, 0}), BadIE, ""},
	{"v2 grouped element beyond the end of its group", false, v2msg(33, 1, 1, ie(93, 73, 0, 9, 0, 5)), BadIE, ""},
	{"v2 header cut", false, unhex("48 20 0008 00000000"), TooShort, ""},
	{"v2 length under the header's", false, unhex("48 20 0003 00000000 000001 00"), TooShort, ""},
	{
		"v2 cut frame in a bearer context: what is there holds", false,
		cut(v2msg(34, 9, 2, bearer(0, 5, fteid(0, 0, 1, "10.0.0.1"), ie(80, 1, 2, 3, 4))), 3),
		Cut, "gtpv2_modify_bearer_request teid=9 seq=2 [0/5 cause=0] " + s1(slotRAN) + ":10.0.0.1/1@5-",
	},
	{
		"v2 more bearers than there can be", false, v2msg(35, 1, 1, slices.Repeat(bearer(0, 5), 40)),
		OK, "gtpv2_modify_bearer_response teid=1 seq=1" + strings.Repeat(" [0/5 cause=0]", maxBearers-1),
	},
	{
		"v2 IMSI of a wrong digit is none", false, v2msg(32, 0, 1, ie(1, 0x1a)),
		OK, "gtpv2_create_session_request teid=0 seq=1",
	},
	{
		"v2 IMSI of 17 digits is none", false, v2msg(32, 0, 1, ie(1, tbcd("12345678901234567")...)),
		OK, "gtpv2_create_session_request teid=0 seq=1",
	},
	{
		"v2 APN with a label beyond the end is none", false, v2msg(32, 0, 1, ie(71, 9, 'a', 'b')),
		OK, "gtpv2_create_session_request teid=0 seq=1",
	},
	{
		"v2 hostile octets in an APN", false, v2msg(32, 0, 1, ie(71, 3, '"', '\n', 0xff)),
		OK, "gtpv2_create_session_request teid=0 seq=1 apn=___",
	},
	{
		"v2 an APN that only looks like an operator identifier", false, v2msg(32, 0, 1, ie(71, labels("a.mnc1.mcc901.gprs")...)),
		OK, "gtpv2_create_session_request teid=0 seq=1 apn=a.mnc1.mcc901.gprs",
	},

	// PFCP
	{
		"pfcp establishment request", true,
		pfcpmsg(50, 0, 3, pie(60, []byte{0, 10, 0, 0, 3}), fseid(0x1122334455667788, "10.0.0.3"),
			pdr(1, 1, 1, pie(22, []byte("internet")), pue("10.45.0.2")),
			pdr(1, 2, 0, pchoose(), pue("10.45.0.2")),
			pdr(1, 3, 3, pfteid(9, "10.9.9.9")),
			far(3, 1, 0, outer(0x55, "10.0.1.1")), far(3, 2, 1), far(3, 3, 3, outer(1, "10.0.0.4")),
			pie(141, []byte{7, 8}, tbcd("901700000021309"), []byte{8}, tbcd("3572200924513839"), []byte{6}, tbcd("896745214365")),
			pie(159, labels("ims.mnc001.mcc001.gprs"))),
		OK, "pfcp_session_establishment_request teid=0 seq=3 imsi=901700000021309 msisdn=896745214365 imei=3572200924513839 apn=ims v4=10.45.0.2 " +
			s1(slotSEIDCP) + ":10.0.0.3/1122334455667788@0? " + s1(slotNear) + ":0:0/0@0+ " + s1(slotFar) + ":10.0.1.1/55@129- " + s1(slotFar) + ":0:0/0@130+",
	},
	{
		"pfcp establishment response", true,
		pfcpmsg(51, 0x1122334455667788, 3, pie(19, []byte{1}), fseid(2, "fd00::7"),
			pie(8, pie(56, be16(2)), pfteid(0x77, "10.0.0.7"))),
		OK, "pfcp_session_establishment_response teid=1122334455667788 seq=3 cause=1 " +
			s1(slotSEIDUP) + ":fd00000000000000:7/2@0? " + s1(slotNear) + ":10.0.0.7/77@0?",
	},
	{
		"pfcp modification without destination interface", true,
		pfcpmsg(52, 2, 4, far(10, 1, pfcpNone, outer(0x66, "fd00::1"))),
		OK, "pfcp_session_modification_request teid=2 seq=4 " + s1(slotFar) + ":fd00000000000000:1/66@129?",
	},
	{
		"pfcp traffic endpoint takes the direction of its PDR", true,
		pfcpmsg(52, 2, 4, pie(127, pie(131, []byte{9}), pfteid(0x70, "10.0.0.7")),
			pdr(1, 5, 0, pie(131, []byte{9}))),
		OK, "pfcp_session_modification_request teid=2 seq=4 " + s1(slotNear) + ":10.0.0.7/70@0+ " + s1(slotNear) + ":0:0/0@0+",
	},
	{
		"pfcp outer header that is no tunnel", true,
		pfcpmsg(52, 2, 4, far(10, 1, 0, pie(84, []byte{4, 0, 10, 0, 0, 1, 0, 80}))),
		OK, "pfcp_session_modification_request teid=2 seq=4 " + s1(slotFar) + ":0:0/0@129-",
	},
	{
		"pfcp vendor element is skipped", true, pfcpmsg(53, 2, 4, pie(0x8001, []byte{0, 10, 1}), pie(19, []byte{1})),
		OK, "pfcp_session_modification_response teid=2 seq=4 cause=1",
	},
	{
		"pfcp heartbeat", true, unhex("20 01 000c 000001 00 0060 0004 e1234567"),
		OK, "pfcp_heartbeat_request teid=0 seq=1",
	},
	{
		"pfcp addresses that do not fit their flags", true,
		pfcpmsg(51, 2, 4, pie(57, []byte{3}, be64(1), raw("10.0.0.1")), pie(8, pie(56, be16(1)), pie(21, []byte{3}, be32(7), raw("10.0.0.1"))),
			pie(8, pie(56, be16(2)), pie(93, []byte{2, 10, 0})), pie(8, pie(21, []byte{1, 0})), pie(8, pie(21, []byte{1}, be32(7), []byte{10, 0}))),
		OK, "pfcp_session_establishment_response teid=2 seq=4 " + s1(slotNear) + ":10.0.0.1/7@0?",
	},
	{
		"pfcp IPv6 user address", true, pfcpmsg(50, 0, 4, pdr(1, 1, 1, pue("2001:db8::1"))),
		OK, "pfcp_session_establishment_request teid=0 seq=4 v6=20010db800000000:1/64",
	},
	{"pfcp group beyond the end", true, pfcpmsg(50, 0, 1, pie(1, []byte{0, 56, 0, 9, 1})), BadIE, ""},
	{"pfcp group in a group beyond the end", true, pfcpmsg(50, 0, 1, pie(1, pie(2, []byte{0, 20, 0, 9, 1}))), BadIE, ""},
	{"pfcp header cut", true, unhex("21 32 000c 0000000000000000 0000"), TooShort, ""},
	{"pfcp version 2", true, unhex("41 32 000c 00000000"), BadVersion, ""},
	{
		"pfcp user id beyond its end", true, pfcpmsg(50, 0, 1, pie(141, []byte{1, 9, 0x12})),
		OK, "pfcp_session_establishment_request teid=0 seq=1",
	},
}

// everyTV is one of each element of fixed length. Zeros: no IMSI, TEID 0.
func everyTV() (b []byte) {
	for t, n := range v1FixedLength {
		// TEIDs and NSAPIs would be read.
		if n == 0 || t == v1TEIDData || t == v1TEIDControl || t == v1NSAPI || t == v1IMSI {
			continue
		}
		b = append(append(b, byte(t)), make([]byte, n)...)
	}
	return b
}

func cut(b []byte, n int) []byte { return b[:len(b)-n] }

func TestParse(t *testing.T) {
	var m Message
	for _, row := range parseRows {
		t.Run(row.name, func(t *testing.T) {
			_, v := m.Parse(row.b, row.pfcp)
			if v != row.verdict {
				t.Fatalf("verdict %v, want %v; message: %s", v, row.verdict, m.text())
			}
			if row.text != "" && m.text() != row.text {
				t.Fatalf("\ngot  %s\nwant %s", m.text(), row.text)
			}
		})
	}
}

// Whatever the length of the cut: no panic, and nothing read beyond it.
func TestParseEveryPrefix(t *testing.T) {
	var m Message
	for _, row := range parseRows {
		for n := range row.b {
			b := slices.Clip(slices.Clone(row.b[:n]))
			m.Parse(b, row.pfcp)
		}
	}
}

func TestParseFollowOn(t *testing.T) {
	var m Message
	one, two := v2msg(33, 1, 1, cause2(16)), v2msg(95, 1, 2, ie(73, 5))
	rest, v := m.Parse(piggyback(one, two), false)
	if v != OK || string(rest) != string(two) {
		t.Fatalf("piggybacked: %v, rest %x", v, rest)
	}
	if rest, _ = m.Parse(append(slices.Clone(one), two...), false); rest != nil {
		t.Fatal("a second message without P was read")
	}
	a, b := pfcpmsg(53, 1, 1, pie(19, []byte{1})), pfcpmsg(53, 2, 2, pie(19, []byte{1}))
	both := append(slices.Clone(a), b...)
	both[0] |= 0x04
	if rest, v = m.Parse(both, true); v != OK || string(rest) != string(b) {
		t.Fatalf("follow on: %v, rest %x", v, rest)
	}
}

func TestParseBoundsEndpoints(t *testing.T) {
	var many []byte
	for i := range uint32(50) {
		many = append(many, fteid(0, 0, i+1, "10.0.0.1")...)
		many = append(many, fteid(0, 0, i+1, "10.0.0.1")...) // said twice, kept once
	}
	var m Message
	_, v := m.Parse(v2msg(34, 1, 1, bearer(0, 5, many)), false)
	if v != OK || m.NumEndpoints != maxEndpoints || m.Dropped != 2*(50-maxEndpoints) {
		t.Fatalf("%v: %d endpoints, %d dropped", v, m.NumEndpoints, m.Dropped)
	}
}

func TestDigits(t *testing.T) {
	for _, s := range []string{"", "0", "00", "123456789012345", "1234567890123456", "000000000000000"} {
		d := digits(s)
		if got := clearDigits(d); got != s || d.Len() != len(s) {
			t.Errorf("%q: read back as %q of %d", s, got, d.Len())
		}
	}
	if digitsFromTBCD([]byte{0xff, 0xff}) != 0 {
		t.Error("filler alone is no number")
	}
	d := digits("3572200924513839")
	if fmt.Sprint(d) != "redacted" || fmt.Sprintf("%+v", struct{ D Digits }{d}) != "{D:redacted}" {
		t.Error("digits are printed")
	}
	if tac, ok := d.TAC(); !ok || tac != 35722009 {
		t.Errorf("TAC %d %v", tac, ok)
	}
	if _, ok := digits("1234567890123").TAC(); ok {
		t.Error("TAC of 13 digits")
	}
	if tac, ok := digits("01234567890123").TAC(); !ok || tac != 1234567 {
		t.Errorf("TAC with a leading zero: %d %v", tac, ok)
	}
}

func TestHasher(t *testing.T) {
	if _, err := NewHasher(make([]byte, 15)); err == nil {
		t.Error("a short key was taken")
	}
	h, err := NewHasher([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	d := digits("901700000021309")
	// printf imsi:901700000021309 | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
	const want = "7baca17b593cacaa453201450d7bd94b"
	for range 2 {
		if got := h.Hash(IMSI, d); got != want {
			t.Fatalf("hash %s, want %s", got, want)
		}
	}
	if h.Hash(IMSI, d) == h.Hash(MSISDN, d) {
		t.Error("equal digits of two kinds have one hash")
	}
	other, _ := NewHasher([]byte("another key of enough length"))
	if other.Hash(IMSI, d) == want {
		t.Error("the key does not matter")
	}
	if h.Hash(IMEI, 0) != "" {
		t.Error("none has a hash")
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	var m Message
	for _, row := range parseRows {
		if n := testing.AllocsPerRun(20, func() { m.Parse(row.b, row.pfcp) }); n != 0 {
			t.Errorf("%s: %v allocations", row.name, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, row := range parseRows {
		f.Add(row.b, row.pfcp)
	}
	var m Message
	f.Fuzz(func(t *testing.T, b []byte, pfcp bool) {
		for range maxMessages {
			rest, v := m.Parse(b, pfcp)
			if v >= NumVerdicts || v.String() == "" {
				t.Fatalf("verdict %d", v)
			}
			if int(m.NumEndpoints) > maxEndpoints || int(m.NumBearers) > maxBearers || m.NumBearers == 0 {
				t.Fatalf("%d endpoints, %d bearers", m.NumEndpoints, m.NumBearers)
			}
			if len(rest) >= len(b) && len(b) > 0 {
				t.Fatal("the datagram does not get shorter")
			}
			for _, c := range m.APN() {
				if plain(c) != c {
					t.Fatalf("APN %q", m.APN())
				}
			}
			if b = rest; len(b) == 0 || !v.Usable() {
				return
			}
		}
	})
}
