// Package classify says what a name means and which evidence may give a flow
// its name.
//
// It has three parts, none of which knows a packet or a flow:
//
//   - The rules file: a naming scheme that maps host names to ⟨app, class⟩
//     (Rules, Load, Parse, Builtin), and the Registry that gives every such
//     pair a small number that outlives a reload.
//   - The evidence: which observation named a flow, and in which order
//     observations are asked (Evidence, Cascade).
//   - The TLS ClientHello: a scanner that reads the server name out of a
//     connection's first bytes (ClientHello, PartialSNI).
package classify
