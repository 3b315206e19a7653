#!/usr/bin/env bash
# Measures nametap beside other programs that read the same capture files, and
# prints the result as Markdown. What is compared and why: docs/compare.md.
set -euo pipefail
export LC_ALL=C # a decimal point in every time
export PATH=$PATH:/usr/sbin # where Debian has softflowd and argus

usage() {
	cat <<'USAGE'
usage: docs/compare/run.sh [-b NAMETAP] [-d DIR] [-n ROUNDS] [-g] [gi|gtp|big]...

  -b NAMETAP  binary to measure (default: built from this checkout)
  -d DIR      keep the traces in DIR and use those that are there already
              (default: a temporary directory in memory, removed at the end)
  -n ROUNDS   runs of each program, of which the median counts (default 5)
  -g          only write the traces

The three traces take 2.6 GB. Programs that are not installed are left out.
USAGE
}

repository=$(cd "$(dirname "$0")/../.." && pwd)
nametap='' directory='' rounds=5 only_traces=no
while getopts b:d:n:gh option; do
	case $option in
	b) nametap=$(realpath "$OPTARG") ;;
	d) directory=$OPTARG ;;
	n) rounds=$OPTARG ;;
	g) only_traces=yes ;;
	h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
kinds=("$@")
[ $# -gt 0 ] || kinds=(gi gtp big)

memory=/dev/shm # reading from memory leaves the disk out of the figures
[ -w $memory ] || memory=${TMPDIR:-/tmp}
scratch=$(mktemp -d "$memory/nametap-compare.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
directory=${directory:-$scratch}
mkdir -p "$directory"

if [ -z "$nametap" ]; then
	nametap=$scratch/nametap
	(cd "$repository" && CGO_ENABLED=0 go build -o "$nametap" ./cmd/nametap)
fi

# The arguments of `nametap synth` that make each kind of trace.
arguments_of() { # KIND
	case $1 in
	gi) echo --scenario mixed-2026 --subscribers-count 32000 --encapsulation none ;;
	gtp) echo --scenario mixed-2026 --subscribers-count 32000 --encapsulation gtpu ;;
	big) echo --scenario busy-hour --subscribers-count 600000 --snap-length 96 ;;
	*) echo "no trace is called $1: gi, gtp and big are" >&2; exit 2 ;;
	esac
}

make_trace() { # KIND
	local arguments
	arguments=$(arguments_of "$1")
	[ -e "$directory/$1.pcap" ] && return
	# shellcheck disable=SC2086 # several words
	"$nametap" synth $arguments --seed 20260 --duration 1m -o "$scratch/making"
	mv "$scratch/making" "$directory/$1.pcap"
}

for kind in "${kinds[@]}"; do make_trace "$kind"; done
[ $only_traces = no ] || exit 0

tshark_packets=100000 # tshark takes a hundred times as long: it reads so many and stops

# Puts the command of a program into the array `command`, and into `about` what
# the table calls it. Returns 1 where the program cannot do this kind of trace.
# Each writes its results to $scratch, which is in memory.
command_of() { # PROGRAM KIND
	local trace=$directory/$2.pcap inside=()
	case $1 in
	nametap)
		about='nametap'
		command=("$nametap" analyze --shards 1 "$trace")
		;;
	records)
		about='nametap, with a record of each flow'
		command=("$nametap" analyze --shards 1 --flows "$scratch/records.jsonl" "$trace")
		;;
	shards)
		about="nametap, $(nproc) shards"
		command=("$nametap" analyze "$trace")
		;;
	tcptrace)
		[ "$2" != gtp ] || return 1
		about='tcptrace'
		command=(tcptrace -n -r -l --csv "$trace")
		;;
	ndpiReader)
		[ "$2" != gtp ] || inside=(-t)
		about='nDPI (ndpiReader)'
		command=(ndpiReader -q "${inside[@]}" -i "$trace")
		;;
	argus)
		[ "$2" != gtp ] || return 1
		about='argus'
		command=(argus -r "$trace" -w "$scratch/argus.out")
		;;
	softflowd)
		[ "$2" != gtp ] || return 1
		about='softflowd'
		command=(softflowd -r "$trace" -m 1000000 -v 10 -b -n 127.0.0.1:9)
		;;
	nfpcapd)
		[ "$2" != gtp ] || return 1
		about='nfpcapd'
		mkdir -p "$scratch/nfpcapd"
		command=(nfpcapd -r "$trace" -w "$scratch/nfpcapd")
		;;
	tshark)
		about="tshark, first $tshark_packets packets"
		command=(tshark -n -q -z "conv,tcp" -c "$tshark_packets" -r "$trace")
		;;
	esac
}

installed() { # PROGRAM
	case $1 in
	nametap | records | shards) true ;;
	*) type -P "$1" >/dev/null ;;
	esac
}

# Runs the array `command`; appends one line to FILE: CPU seconds of the whole
# process (user and system), wall seconds, peak resident KiB.
measure() { # FILE
	local TIMEFORMAT='%3U %3S %3R' times user system wall
	rm -f "$scratch"/argus.out # argus would append
	# The outer clock counts milliseconds where GNU time has hundredths.
	times=$({ time "$gnu_time" -f %M -o "$scratch/peak" "${command[@]}" >"$scratch/out" 2>"$scratch/err"; } 2>&1) || {
		echo "${command[*]}: $(tail -n 1 "$scratch/err")" >&2
		[ "${command[0]}" != "$nametap" ] || exit 1
		return
	}
	read -r user system wall <<<"$times"
	awk -v u="$user" -v s="$system" -v w="$wall" '{ print u + s, w, $1 }' "$scratch/peak" >>"$1"
}

median() { # FILE COLUMN
	awk -v c="$2" '{ print $c }' "$1" | sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

packets_of() { # KIND
	"$nametap" analyze --format json "$directory/$1.pcap" | sed -n 's/.*"packets": *\([0-9]*\).*/\1/p' | head -n 1
}

print_row() { # PROGRAM KIND PACKETS
	local file=$scratch/$2.$1 count=$3 cpu wall peak
	[ -s "$file" ] || return 0
	command_of "$1" "$2"
	[ "$1" != tshark ] || count=$tshark_packets
	cpu=$(median "$file" 1) wall=$(median "$file" 2) peak=$(median "$file" 3)
	awk -v about="$about" -v n="$count" -v cpu="$cpu" -v wall="$wall" -v peak="$peak" -v base="$base" 'BEGIN {
		each = cpu * 1e9 / n
		printf "| %s | %.0f | %.2f | %.2f | %.0f |\n", about, each, each / base, wall, peak / 1024
	}'
}

gnu_time=$(type -P time) || { echo "GNU time is missing: apt install time" >&2; exit 1; }
programs=()
for program in nametap records shards tcptrace ndpiReader argus softflowd nfpcapd tshark; do
	if installed "$program"; then programs+=("$program"); else echo "$program is not installed" >&2; fi
done

# One program after the other, then all again: what slows the machine for a
# while falls on all of them.
for kind in "${kinds[@]}"; do
	for ((round = 1; round <= rounds; round++)); do
		for program in "${programs[@]}"; do
			command_of "$program" "$kind" || continue
			measure "$scratch/$kind.$program"
		done
	done
done

head -c 24 "$directory/${kinds[0]}.pcap" >"$scratch/empty.pcap" # the file header and no packet
command=("$nametap" analyze --shards 1 "$scratch/empty.pcap")
for ((round = 1; round <= rounds; round++)); do measure "$scratch/empty"; done

model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
echo "$(date -u +%F), $(nproc) cores of ${model:-unknown}, $(uname -sr), medians of $rounds runs. nametap's start and end alone," \
	"with no packet: $(awk -v s="$(median "$scratch/empty" 1)" 'BEGIN { printf "%.0f", s * 1000 }') ms of CPU, which its figures include."
for kind in "${kinds[@]}"; do
	packets=$(packets_of "$kind")
	bytes=$(stat -c %s "$directory/$kind.pcap")
	base=$(awk -v s="$(median "$scratch/$kind.nametap" 1)" -v n="$packets" 'BEGIN { print s * 1e9 / n }')
	printf '\n**%s**: %s packets, %s MB\n\n' "$kind" "$packets" $((bytes / 1000000))
	echo '| | CPU ns a packet | × nametap | wall s | peak MiB |'
	echo '|---|---:|---:|---:|---:|'
	for program in "${programs[@]}"; do print_row "$program" "$kind" "$packets"; done
done
