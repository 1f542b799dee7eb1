// Package datamemory says what the rows of reference/schema take of a data node's
// DataMemory and of its redo log: computed from how NDB lays them out, and
// measured by ndbinfo. All sizes are of one replica of a table: a cluster stores
// each as often as it has replicas.
//
// The layout is that of the NDB sources (storage/ndb/src/kernel/blocks): dbtup
// for rows, dbacc for the hash of the primary key, dbtux for ordered indexes and
// dblqh for the redo log. docs/capacity-memory.md gives the formulas.
package datamemory

import "math"

// The layout in words of 4 bytes, and bytes.
const (
	wordBytes = 4
	pageBytes = 32 << 10
	pageWords = pageBytes/wordBytes - 32 // Tup_page's DATA_WORDS: a page less its header

	// The fixed part of a row begins with 2 words of header (Tuple_header), one of
	// checksum (mysqld's ndb_row_checksum is on), one of GCI, and two that lead to
	// the variable part. mysqld asks for these two in each table but those of
	// ROW_FORMAT=FIXED, so that columns may be added later (setForceVarPart).
	rowHeaderWords = 2 + 1 + 1 + 2

	// The hash of the primary key is a linear hash table in pages of 8 KiB
	// (dbacc): 64 buckets a page, each with a container of 28 words, and 8 more
	// containers for what flows over. A container has a header of 2 words and 2
	// words a row: 13 rows fit, and up to 6 leave half of it to another bucket. The
	// table grows by a bucket when 80 % of 28 words are full on the average: 22,
	// which is 11 rows. A page for what flows over takes 66 containers (ZFREE_LIMIT).
	hashPageBytes   = 8 << 10
	bucketsPerPage  = 64
	spareContainers = 8
	containerRows   = 13
	halfRows        = 6
	bucketRows      = 11
	overflowPage    = 66
	firstBuckets    = 64 // of each fragment

	// A node of an ordered index (dbtux) has 64 words, 7 of them its header, and 2
	// words a row; it is stored as a row with a header of 4 words. No key of ours is
	// short enough for its first words to be kept in the node.
	treeNodeWords = 64 + 4
	treeNodeRows  = (64 - 7) / 2
	// Keys that come in random order fill the nodes of a tree that splits full ones
	// to ln 2 (Yao, "On random 2-3 trees", Acta Informatica 9, 1978).
	treeFillPercent = 69

	// A change is logged when it is prepared (8 words, the key, the columns, each
	// after a word that names it) and when it is committed (ZLOG_HEAD_SIZE and
	// ZCOMMIT_LOG_SIZE in Dblqh.hpp).
	redoWords = 8 + 9
)

// Column is a column as NDB stores it.
type Column struct {
	Name string
	// Words is what a column of fixed length takes in every row, rounded up to
	// whole words of 4 bytes; 0 for one of variable length.
	Words int
	// Length is how many bytes tell the length of a column of variable length: 1
	// up to 255 bytes, 2 beyond. 0 for a fixed one.
	Length int
	Key    bool // of the primary key
}

// Table is a table as NDB stores it.
type Table struct {
	Name    string
	Columns []Column
	// Ordered says that the primary key has an ordered index beside its hash, as
	// it has unless it is USING HASH.
	Ordered bool
}

// fixed and variable make columns.
func fixed(name string, bytes int) Column { return Column{Name: name, Words: words(bytes)} }

func variable(name string, most int) Column {
	if most > 255 {
		return Column{Name: name, Length: 2}
	}
	return Column{Name: name, Length: 1}
}

func key(c Column) Column {
	c.Key = true
	return c
}

func words(bytes int) int { return (bytes + wordBytes - 1) / wordBytes }

// Names of tables.
const (
	Routes           = "route"
	Accounts         = "account"
	AccountAddresses = "account_address"
	AccountChanges   = "account_change"
	Preferences      = "userprefs"
	AddressBook      = "address"
	Greylist         = "greylist"
	Heartbeat        = "heartbeat"
)

// Tables are those of reference/schema, in an order of their own.
func Tables() []Table {
	return []Table{
		{Name: Routes, Columns: []Column{
			key(variable("address", 255)), fixed("kind", 1), fixed("state", 1), variable("backend", 256), variable("targets", 8001),
			fixed("keep_copy", 1), fixed("greylist", 1), fixed("spam_threshold", 1),
		}},
		{Name: Accounts, Columns: []Column{
			key(variable("login", 129)), variable("full_name", 256), variable("affiliation", 65), fixed("state", 1),
			variable("backend", 256), variable("moving_to", 256), fixed("quota_mb", 4), variable("targets", 8001),
			fixed("keep_copy", 1), fixed("greylist", 1), fixed("spam_threshold", 1), fixed("created_s", 4), fixed("changed_s", 4),
		}},
		{Name: AccountAddresses, Ordered: true, Columns: []Column{key(variable("login", 129)), key(variable("address", 255))}},
		{Name: AccountChanges, Columns: []Column{
			key(variable("change_id", 17)), variable("login", 129), fixed("action", 1), fixed("at_s", 4),
		}},
		{Name: Preferences, Ordered: true, Columns: []Column{
			key(variable("user", 129)), key(variable("prefkey", 65)), variable("prefval", 29001),
		}},
		{Name: AddressBook, Ordered: true, Columns: []Column{
			key(variable("owner", 129)), key(variable("nickname", 17)), variable("firstname", 129), variable("lastname", 129),
			variable("email", 129), variable("label", 256),
		}},
		{Name: Greylist, Ordered: true, Columns: []Column{
			key(fixed("k", 16)), fixed("first_seen", 4), fixed("last_seen", 4), fixed("credits", 4),
		}},
		{Name: Heartbeat, Columns: []Column{key(variable("node", 64)), fixed("beat", 8)}},
	}
}

// TableNamed is one of Tables.
func TableNamed(name string) (Table, bool) {
	for _, t := range Tables() {
		if t.Name == name {
			return t, true
		}
	}
	return Table{}, false
}

// fixedWords is the fixed part of a row.
func (t Table) fixedWords() int {
	n := rowHeaderWords
	for _, c := range t.Columns {
		n += c.Words
	}
	return n
}

// variableWords is the variable part of a row whose columns of variable length
// have these bytes: an array of offsets of 2 bytes, one more than there are
// columns, and the columns, each after its length. 0 for a table that has none.
func (t Table) variableWords(lengths []int) int {
	bytes, n := 0, 0
	for _, c := range t.Columns {
		if c.Length > 0 {
			bytes += c.Length + lengths[n]
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return words(2*(n+1) + bytes)
}

// writeWords is what storing such a row takes of the redo log.
func (t Table) writeWords(lengths []int) int {
	total, n := redoWords, 0
	for _, c := range t.Columns {
		size := c.Words
		if c.Length > 0 {
			size = words(c.Length + lengths[n])
			n++
		}
		total += 1 + size
		if c.Key {
			total += size
		}
	}
	return total
}

// Contents is what a table holds: how many rows, and their lengths in sum.
type Contents struct {
	Rows     int64 `json:"rows"`
	VarWords int64 `json:"var_words"` // of the variable parts, in words of 4 bytes
	LogWords int64 `json:"log_words"` // that storing all of them takes of the redo log
}

// Add counts a row whose columns of variable length have these bytes, in the order
// of the columns. It must have one for each.
func (t Table) Add(c *Contents, lengths ...int) {
	c.Rows++
	c.VarWords += int64(t.variableWords(lengths))
	c.LogWords += int64(t.writeWords(lengths))
}

// Size is what rows take of DataMemory, in bytes of one replica.
type Size struct {
	Fixed   int64 `json:"fixed_bytes"`   // the fixed parts
	Var     int64 `json:"var_bytes"`     // the variable parts
	Hash    int64 `json:"hash_bytes"`    // the hash of the primary key
	Ordered int64 `json:"ordered_bytes"` // the ordered index of the primary key
}

// Total is the sum.
func (s Size) Total() int64 { return s.Fixed + s.Var + s.Hash + s.Ordered }

// Sub is what s has more than before.
func (s Size) Sub(before Size) Size {
	return Size{s.Fixed - before.Fixed, s.Var - before.Var, s.Hash - before.Hash, s.Ordered - before.Ordered}
}

// Estimate computes what a table takes whose rows are spread evenly over so many
// partitions, 1 or more. Each begins pages of its own.
func (t Table) Estimate(c Contents, partitions int) Size {
	n := int64(max(partitions, 1))
	rows := divUp(c.Rows, n) // of a partition
	if rows == 0 {
		return Size{}
	}
	s := Size{
		Fixed: n * pageBytes * divUp(rows, pageWords/int64(t.fixedWords())),
		Hash:  n * hashBytes(rows),
	}
	if c.VarWords > 0 {
		// Each has a word in the page's index, and half of one is left over at its end.
		each := divUp(c.VarWords, c.Rows) + 1
		s.Var = n * pageBytes * divUp(divUp(c.VarWords, n)+rows, pageWords-each/2)
	}
	if t.Ordered {
		nodes := divUp(rows*100, treeNodeRows*treeFillPercent)
		s.Ordered = n * pageBytes * divUp(nodes, pageWords/treeNodeWords)
	}
	return s
}

// hashBytes is the hash of so many rows of one partition: the pages of its buckets,
// and those for what flew over at its worst since the table was half as large, as
// a page is given back only when it is empty.
func hashBytes(rows int64) int64 {
	buckets := max(divUp(rows, bucketRows), firstBuckets)
	over := 0.0
	const steps = 32 // from half as many buckets on
	for i := int64(steps); i <= 2*steps; i++ {
		if n := buckets * i / (2 * steps); n >= firstBuckets {
			over = max(over, overflow(n, min(float64(rows)/float64(buckets), bucketRows)))
		}
	}
	return (divUp(buckets, bucketsPerPage) + int64(math.Ceil(over/overflowPage))) * hashPageBytes
}

// overflow is how many containers of a hash with so many buckets, and rows in each
// on the average, are not in the pages of the buckets. Between two powers of two
// some buckets are split and others not yet, which hold twice as much.
func overflow(buckets int64, mean float64) float64 {
	low := int64(firstBuckets)
	for 2*low <= buckets {
		low *= 2
	}
	whole := mean * float64(buckets) / float64(low) // rows of a bucket that is not split yet
	return spill(whole)*float64(2*low-buckets)/bucketsPerPage + spill(whole/2)*float64(2*(buckets-low))/bucketsPerPage
}

// spill is how many containers a page of buckets needs beyond those it has, when
// the rows of a bucket are Poisson distributed with that mean.
func spill(mean float64) float64 {
	p := math.Exp(-mean)
	var need, halves, sum float64
	for n := 0; n < 10*containerRows; n++ {
		if n > 0 {
			p *= mean / float64(n)
		}
		sum += p
		if n <= halfRows {
			halves += p
		}
		need += p * float64(max(n-1, 0)/containerRows) // containers beside the first
	}
	return max(bucketsPerPage*(need-halves)-spareContainers, 0)
}

func divUp(a, b int64) int64 { return (a + b - 1) / b }

// DeleteBytes is what deleting a row takes of the redo log: its key, and when it
// was prepared and committed. keyBytes are the lengths of the key's columns of
// variable length, in sum.
func (t Table) DeleteBytes(keyBytes int) int64 {
	n := redoWords + words(keyBytes)
	for _, c := range t.Columns {
		if c.Key {
			n += c.Words
		}
	}
	return int64(n) * wordBytes
}

// WriteBytes is what storing one of these rows takes of the redo log, on the
// average, rounded up; 0 if there is none.
func (c Contents) WriteBytes() int64 {
	if c.Rows == 0 {
		return 0
	}
	return divUp(c.LogWords*wordBytes, c.Rows)
}
