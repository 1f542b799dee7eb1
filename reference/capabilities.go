package reference

import (
	"context"
	"database/sql"
	"time"

	"github.com/mailbench/mailbench/reference/topology"
)

// What a target may offer beyond Nodes, for faults that need it: a fault asks by
// type assertion and, where the answer is no, says so before anything starts.
// All acts are idempotent in the direction that takes a fault back (Thaw, Mend,
// Unshape, ResetLimits, FreeDisk, StopHog), work on a node or host that is dead
// already, and need no memory of the process that made the fault.
type (
	// Liveness says whether a node has processes, whatever the cluster thinks of it.
	Liveness interface {
		Runs(ctx context.Context, node topology.ID) (bool, error)
	}

	// Killer ends a node's process with SIGKILL; its host lives on.
	Killer interface {
		Kill(ctx context.Context, node topology.ID) error
	}

	// Freezer stops all processes of a node without their notice, as SIGSTOP
	// does, and lets them go on. Its connections stay open and silent.
	Freezer interface {
		Freeze(ctx context.Context, node topology.ID) error
		Thaw(ctx context.Context, node topology.ID) error
	}

	// Stopper asks a node to end in order: a data node by the management
	// protocol, any other with SIGTERM. It returns when the node was told, or is
	// down: a management server answers when the others have excluded the node.
	Stopper interface {
		StopNode(ctx context.Context, node topology.ID) error
	}

	// Restarter has a data node restart in place by the management protocol, its
	// angel living on, and any other node stop and start. It returns when the
	// node was told to stop, or has stopped and was started.
	Restarter interface {
		RestartNode(ctx context.Context, node topology.ID) error
	}

	// Crasher kills the process of a data node that does the work, not the angel
	// that watches it. What the angel does then is up to StopOnError.
	Crasher interface {
		CrashChild(ctx context.Context, node topology.ID) error
	}

	// Emptier empties the disk of a node that is dead, so that its next start is
	// an initial one.
	Emptier interface {
		EmptyDisk(ctx context.Context, node topology.ID) error
	}

	// Firewall drops packets at a host's own interface.
	Firewall interface {
		// Cut adds a rule set of that name to a host, in place of one that is there;
		// Mend removes it, and does nothing where it is not there.
		Cut(ctx context.Context, host string, c Cut) error
		Mend(ctx context.Context, host, name string) error
		// CheckFirewall says what is missing, before anything is cut.
		CheckFirewall(ctx context.Context) error
	}

	// Shaper bounds what a host sends, by the queueing discipline of its interface.
	// A new shape takes the place of an old one.
	Shaper interface {
		Shape(ctx context.Context, host string, s Shape) error
		Unshape(ctx context.Context, host string) error
		// CheckShape says what the kernel or the image lacks for it.
		CheckShape(ctx context.Context, s Shape) error
	}

	// Limiter changes what a running node may use of its machine, and gives it back
	// what the topology says.
	Limiter interface {
		LimitCPU(ctx context.Context, node topology.ID, milliCPUs int) error
		ResetLimits(ctx context.Context, node topology.ID) error
	}

	// Disk fills the file system under a node's data, which the topology must
	// have bounded, and frees it again.
	Disk interface {
		// FillDisk leaves no more than that many bytes free, at that moment.
		FillDisk(ctx context.Context, node topology.ID, leave int64) error
		FreeDisk(ctx context.Context, node topology.ID) error
		// CheckDisk refuses a node whose disk is nobody's but the machine's.
		CheckDisk(ctx context.Context, node topology.ID) error
	}

	// Hog runs a neighbour beside a node's process on its host that writes to the
	// same disk and syncs, burns that many thousandths of a processor and holds that
	// much memory, both out of the node's own share.
	Hog interface {
		StartHog(ctx context.Context, node topology.ID, h HogLoad) error
		StopHog(ctx context.Context, node topology.ID) error
	}

	// Replicator is a target whose nodes learn of each other's writes after these
	// were acknowledged.
	Replicator interface {
		// AwaitReplicated waits until a node has all that was acknowledged, anywhere,
		// before the call.
		AwaitReplicated(ctx context.Context, node topology.ID) error
	}

	// Checkpointer is a target whose commits become part of global checkpoints, to
	// which a restart of the whole of it goes back.
	Checkpointer interface {
		// Checkpoint makes a commit over a pool of OpenAdmin's, and returns the number
		// of the global checkpoint that it is part of.
		Checkpoint(ctx context.Context, db *sql.DB) (int64, error)
	}

	// Admin opens an administrator's connections to a SQL node. The caller
	// closes the pool.
	Admin interface {
		OpenAdmin(node topology.ID) (*sql.DB, error)
	}

	// Observer tells of the cluster as a whole.
	Observer interface {
		// Master is the data node that leads the others (NDB's president).
		Master(ctx context.Context) (topology.ID, error)
		// AwaitEvent waits for a cluster event that was learned of at or after since
		// and that match accepts. Events of the last minute are remembered while
		// somebody watches; if nobody does, it watches itself from now on.
		AwaitEvent(ctx context.Context, since time.Time, match func(ClusterEvent) bool) (Evidence, error)
		// Dump gives a data node a DUMP code, such as 7099: start a local checkpoint,
		// of which only the master takes notice. The node does not say whether it did.
		Dump(ctx context.Context, node topology.ID, args ...int) error
	}

	// Gauge tells how full the data nodes are that run.
	Gauge interface {
		Fill(ctx context.Context) (map[topology.ID]Fill, error)
	}

	// Forgetter is a target that remembers what it was told of nodes. Who acts on
	// a node by other means than the target's has it forget before.
	Forgetter interface {
		Forget(node topology.ID)
	}

	// Choosy is a target that cannot do to every node what it offers.
	Choosy interface {
		// CheckNode says why a capability, an interface of this file by its name, is
		// of no use to a fault on a node; nil if it is. It asks nobody.
		CheckNode(capability string, node topology.ID) error
	}
)

// Fill is how full a data node is, in bytes.
type Fill struct {
	DataMemory, DataMemoryTotal int64
	Redo, RedoTotal             int64 // what no local checkpoint covers yet, and the log's size
}

// Cut says which packets of a host are dropped.
type Cut struct {
	Name      string   // of the rule set, unique on the host: a fault's id
	Peers     []string // hosts on the other side; none for everybody, clients included
	Direction Direction
	// Loss is the share of packets that are dropped, in millionths, 1 to
	// 1,000,000 for all.
	Loss int
}

// Direction is seen from the host.
type Direction string

// The directions.
const (
	Both     Direction = "both"
	Incoming Direction = "in"
	Outgoing Direction = "out"
)

// Shape bounds or delays what a host sends. Zero fields leave things as they are.
type Shape struct {
	BitsPerSecond int64
	Delay         time.Duration // needs the kernel's netem
}

// HogLoad is what a noisy neighbour takes.
type HogLoad struct {
	MilliCPUs      int   // of the node's share
	BytesPerSecond int64 // written and synced, 0 for none
	MemoryBytes    int64 // held and read again and again, of the node's share; 0 for none
}
