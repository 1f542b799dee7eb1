package capacity

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// Client is a machine that asks SQL nodes, as far as its load goes: each of a kind gets
// as many messages, or webmail sessions, as the others (workload.Replay draws).
type Client struct {
	Name  string   `json:"name"`
	MTA   bool     `json:"mta"`   // it takes messages; else webmail sessions
	Nodes []string `json:"nodes"` // the preferred one first; another only if those before are dead
	Like  int      `json:"like"`  // index of the measured client that has its habits
}

// MostClients is how many a scenario may have.
const MostClients = 64

// sqlName is what topology.New calls a SQL node, from 1.
func sqlName(number int) string { return "sql" + strconv.Itoa(number) }

// Spread puts the load of clients on n SQL nodes, sql1 to sqlN, as evenly as whole
// clients can: there are at least as many of each kind as nodes, those that are there
// keep the node that they prefer where that is fair, and those that prefer one node go
// to different ones when it dies.
func Spread(clients []Client, n int) ([]Client, error) {
	var spread []Client
	taken := map[string]bool{}
	for i, c := range clients {
		c.Like = i
		spread = append(spread, c)
		taken[c.Name] = true
	}
	for _, mta := range [...]bool{true, false} {
		var models []Client
		for _, c := range spread {
			if c.MTA == mta {
				models = append(models, c)
			}
		}
		if len(models) == 0 {
			continue
		}
		for i := len(models); i < n; i++ {
			like := models[i%len(models)]
			like.Name, like.Nodes = freeName(like.Name, taken), nil
			taken[like.Name] = true
			spread = append(spread, like)
		}
	}
	if len(spread) > MostClients {
		return nil, fmt.Errorf("%d clients would be needed so that each of %d SQL nodes gets as much, %d at most can be", len(spread), n, MostClients)
	}
	prefer(spread, n, true)
	prefer(spread, n, false)
	return spread, nil
}

// prefer orders the nodes of all clients of one kind.
func prefer(clients []Client, n int, mta bool) {
	preferred := make([]int, len(clients)) // from 0, -1 if not known yet
	load := make([]int, n)
	count := 0
	for _, c := range clients {
		if c.MTA == mta {
			count++
		}
	}
	fair := (count + n - 1) / n
	for i, c := range clients {
		preferred[i] = -1
		if c.MTA != mta || len(c.Nodes) == 0 {
			continue
		}
		for node := range n {
			if c.Nodes[0] == sqlName(node+1) && load[node] < fair {
				preferred[i] = node
				load[node]++
			}
		}
	}
	turn := make([]int, n)
	for i := range clients {
		if clients[i].MTA != mta {
			continue
		}
		if preferred[i] < 0 {
			least := slices.Index(load, slices.Min(load))
			preferred[i] = least
			load[least]++
		}
		first := preferred[i]
		nodes := []string{sqlName(first + 1)}
		shift := turn[first]
		if !mta {
			shift++ // not to where the messages of a dead node go
		}
		turn[first]++
		for k := range n - 1 {
			nodes = append(nodes, sqlName((first+1+(k+shift)%(n-1))%n+1))
		}
		clients[i].Nodes = nodes
	}
}

var numbered = regexp.MustCompile(`^(.*?)[0-9]*$`)

// freeName is a name such as that of a client, with another number behind it.
func freeName(like string, taken map[string]bool) string {
	base := numbered.FindStringSubmatch(like)[1]
	if len(base) > 59 { // 63 with four digits
		base = base[:59]
	}
	for i := 2; ; i++ {
		if name := base + strconv.Itoa(i); !taken[name] {
			return name
		}
	}
}

// share is the part of all messages, and of all webmail sessions, that a node gets.
type share struct{ messages, sessions float64 }

// shares are those of each node, with some nodes dead. Clients that have no node left
// ask nobody.
func shares(clients []Client, dead map[string]bool) map[string]share {
	var mtas, others float64
	for _, c := range clients {
		if c.MTA {
			mtas++
		} else {
			others++
		}
	}
	got := map[string]share{}
	for _, c := range clients {
		i := slices.IndexFunc(c.Nodes, func(node string) bool { return !dead[node] })
		if i < 0 {
			continue
		}
		s := got[c.Nodes[i]]
		if c.MTA {
			s.messages += 1 / mtas
		} else {
			s.sessions += 1 / others
		}
		got[c.Nodes[i]] = s
	}
	return got
}
