// Package probe is the engine: it knows in which order a packet passes the
// other rooms.
//
// The dispatcher, one goroutine at a time, takes frames from a source, decodes
// each once and finds out whose packet it is. All packets of a subscriber (DNS and TCP,
// both directions, inside or outside a tunnel) go to one of 64 partitions. A
// partition has tables of its own and is worked by one shard, so that nothing
// on the way of a packet needs a lock; shards are goroutines, and how many
// there are does not change what a partition sees. That is why a replay gives
// the same bytes whatever the number of shards.
//
// Packet time is cut into steps of 100 ms. At the end of each, what all the
// partitions have learned of servers is put together and shown to all of them
// from the step after the next on: a fixed rule, where the shards' own progress
// would be chance.
//
// Workers are several such engines, one for each source of a live tap whose
// frames the kernel divides by subscriber.
package probe
