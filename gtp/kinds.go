package gtp

// Message types (TS 29.060 table 1, TS 29.274 table 6.1-1, TS 29.244 table
// 7.3-1).
const (
	v1CreateRequest  = 16
	v1CreateResponse = 17

	v2CreateSessionRequest  = 32
	v2CreateSessionResponse = 33

	pfcpEstablishmentRequest  = 50
	pfcpEstablishmentResponse = 51
)

// Kind is a type of control message across the protocols: a closed list, fit
// for a label.
type Kind uint8

// operation is what an exchange of request and response does to sessions.
type operation uint8

const (
	opNone operation = iota
	opCreate
	opModify
	opDelete
	opBearerCreate
	opBearerDelete
	opRelease
	opForwardDelete
	opPFCPCreate
	opPFCPModify
	opPFCPDelete
)

type role uint8

const (
	roleOther role = iota
	roleRequest
	roleResponse
)

// kindInfo: request is the type of the request that a response answers.
type kindInfo struct {
	version Version
	typ     uint8
	name    string
	role    role
	op      operation
	request uint8
}

var kindInfos = [...]kindInfo{
	{V1, 0, "gtpv1_other", roleOther, opNone, 0},
	{V1, 1, "gtpv1_echo_request", roleOther, opNone, 0},
	{V1, 2, "gtpv1_echo_response", roleOther, opNone, 0},
	{V1, 3, "gtpv1_version_not_supported", roleOther, opNone, 0},
	{V1, 16, "gtpv1_create_pdp_context_request", roleRequest, opCreate, 16},
	{V1, 17, "gtpv1_create_pdp_context_response", roleResponse, opCreate, 16},
	{V1, 18, "gtpv1_update_pdp_context_request", roleRequest, opModify, 18},
	{V1, 19, "gtpv1_update_pdp_context_response", roleResponse, opModify, 18},
	{V1, 20, "gtpv1_delete_pdp_context_request", roleRequest, opDelete, 20},
	{V1, 21, "gtpv1_delete_pdp_context_response", roleResponse, opDelete, 20},
	{V1, 26, "gtpv1_error_indication", roleOther, opNone, 0},
	{V1, 50, "gtpv1_sgsn_context_request", roleOther, opNone, 0},
	{V1, 51, "gtpv1_sgsn_context_response", roleOther, opNone, 0},
	{V1, 52, "gtpv1_sgsn_context_acknowledge", roleOther, opNone, 0},

	{V2, 0, "gtpv2_other", roleOther, opNone, 0},
	{V2, 1, "gtpv2_echo_request", roleOther, opNone, 0},
	{V2, 2, "gtpv2_echo_response", roleOther, opNone, 0},
	{V2, 3, "gtpv2_version_not_supported", roleOther, opNone, 0},
	{V2, 32, "gtpv2_create_session_request", roleRequest, opCreate, 32},
	{V2, 33, "gtpv2_create_session_response", roleResponse, opCreate, 32},
	{V2, 34, "gtpv2_modify_bearer_request", roleRequest, opModify, 34},
	{V2, 35, "gtpv2_modify_bearer_response", roleResponse, opModify, 34},
	{V2, 36, "gtpv2_delete_session_request", roleRequest, opDelete, 36},
	{V2, 37, "gtpv2_delete_session_response", roleResponse, opDelete, 36},
	{V2, 95, "gtpv2_create_bearer_request", roleRequest, opBearerCreate, 95},
	{V2, 96, "gtpv2_create_bearer_response", roleResponse, opBearerCreate, 95},
	{V2, 97, "gtpv2_update_bearer_request", roleOther, opNone, 0},
	{V2, 98, "gtpv2_update_bearer_response", roleOther, opNone, 0},
	{V2, 99, "gtpv2_delete_bearer_request", roleRequest, opBearerDelete, 99},
	{V2, 100, "gtpv2_delete_bearer_response", roleResponse, opBearerDelete, 99},
	{V2, 166, "gtpv2_create_forwarding_tunnel_request", roleRequest, opModify, 166},
	{V2, 167, "gtpv2_create_forwarding_tunnel_response", roleResponse, opModify, 166},
	{V2, 168, "gtpv2_delete_forwarding_tunnel_request", roleRequest, opForwardDelete, 168},
	{V2, 169, "gtpv2_delete_forwarding_tunnel_response", roleResponse, opForwardDelete, 168},
	{V2, 170, "gtpv2_release_access_bearers_request", roleRequest, opRelease, 170},
	{V2, 171, "gtpv2_release_access_bearers_response", roleResponse, opRelease, 170},
	{V2, 176, "gtpv2_downlink_data_notification", roleOther, opNone, 0},
	{V2, 177, "gtpv2_downlink_data_notification_acknowledge", roleOther, opNone, 0},
	{V2, 211, "gtpv2_modify_access_bearers_request", roleRequest, opModify, 211},
	{V2, 212, "gtpv2_modify_access_bearers_response", roleResponse, opModify, 211},

	{PFCP, 0, "pfcp_other", roleOther, opNone, 0},
	{PFCP, 1, "pfcp_heartbeat_request", roleOther, opNone, 0},
	{PFCP, 2, "pfcp_heartbeat_response", roleOther, opNone, 0},
	{PFCP, 5, "pfcp_association_setup_request", roleOther, opNone, 0},
	{PFCP, 6, "pfcp_association_setup_response", roleOther, opNone, 0},
	{PFCP, 50, "pfcp_session_establishment_request", roleRequest, opPFCPCreate, 50},
	{PFCP, 51, "pfcp_session_establishment_response", roleResponse, opPFCPCreate, 50},
	{PFCP, 52, "pfcp_session_modification_request", roleRequest, opPFCPModify, 52},
	{PFCP, 53, "pfcp_session_modification_response", roleResponse, opPFCPModify, 52},
	{PFCP, 54, "pfcp_session_deletion_request", roleRequest, opPFCPDelete, 54},
	{PFCP, 55, "pfcp_session_deletion_response", roleResponse, opPFCPDelete, 54},
	{PFCP, 56, "pfcp_session_report_request", roleOther, opNone, 0},
	{PFCP, 57, "pfcp_session_report_response", roleOther, opNone, 0},
}

// NumKinds is the number of kinds; they count from 0.
const NumKinds = len(kindInfos)

// kinds finds a message's kind. A type that is not in the list has its
// protocol's "other".
var kinds = func() (k [3][256]Kind) {
	for v := range k {
		for i, info := range kindInfos {
			if info.typ == 0 && int(info.version) == v {
				for t := range k[v] {
					k[v][t] = Kind(i)
				}
			}
		}
	}
	for i, info := range kindInfos {
		k[info.version][info.typ] = Kind(i)
	}
	return k
}()

// Kind of the message.
func (m *Message) Kind() Kind { return kinds[m.Version][m.Type] }

// String is the kind's name, for a label.
func (k Kind) String() string { return kindInfos[k].name }
