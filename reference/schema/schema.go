// Package schema holds the tables and procedures of the mail system as SQL
// files, and puts them on SQL nodes.
//
// The files need nothing of this package: mysql DATABASE < file.sql does the
// same by hand, tables on one SQL node and routines on every one. What a person
// may edit in them Install writes in their place if it is told to: the storage
// engine, ENGINE=NDBCLUSTER, and the policy and the whitelists of greylisting.
package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mailbench/mailbench/reference/greylist"
	"github.com/mailbench/mailbench/reference/ndberr"
)

//go:embed *.sql
var files embed.FS

// engineClause is how the files name the storage engine.
const engineClause = "ENGINE=NDBCLUSTER"

// Admin is one SQL node and a way in, with an account that may create
// databases, tables and routines. DB needs no default database.
type Admin struct {
	Name string
	DB   *sql.DB
}

// Options say where the tables and procedures go.
type Options struct {
	Database string // letters, digits and _; at most 64 bytes
	Engine   string // storage engine, "" for NDBCLUSTER

	// Files take the place of files of this package, by their names: a changed
	// procedure, say. Each must hold the same tables and routines as the one that it
	// replaces.
	Files map[string]string

	Greylist  *greylist.Policy    // nil for the files', which is greylist.DefaultPolicy
	Whitelist *greylist.Whitelist // nil for the files', which is greylist.DefaultWhitelist
}

func (o Options) validate() error {
	if !identifier.MatchString(o.Database) {
		return fmt.Errorf("database %q must be 1 to 64 letters, digits and _", o.Database)
	}
	if o.Engine != "" && !identifier.MatchString(o.Engine) {
		return fmt.Errorf("storage engine %q must be a word", o.Engine)
	}
	if o.Greylist != nil {
		if err := o.Greylist.Validate(); err != nil {
			return err
		}
	}
	if o.Whitelist != nil {
		if _, err := o.Whitelist.Compile(); err != nil {
			return err
		}
	}
	return nil
}

func (o Options) engine() string {
	if o.Engine == "" {
		return "NDBCLUSTER"
	}
	return o.Engine
}

var identifier = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

// object is one table or routine.
type object struct {
	name   string
	kind   string // TABLE, PROCEDURE or FUNCTION
	file   string
	create string // the statement that creates it
}

// body is what information_schema.routines shows of a routine.
func (o object) body() string { return o.create[strings.Index(o.create, "BEGIN"):] }

var (
	createTable   = regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS (\w+)`)
	createRoutine = regexp.MustCompile(`^CREATE (PROCEDURE|FUNCTION) (\w+)(?s:.*)\bBEGIN\b`)
	dropRoutine   = regexp.MustCompile(`^DROP (PROCEDURE|FUNCTION) IF EXISTS \w+$`)
	// constant is how a routine declares a value that Options may replace.
	constant = regexp.MustCompile(`(?m)^(\s*DECLARE (\w+) +(?:BIGINT|INT) DEFAULT )(\d+);`)
)

// whitelistRoutine is the function that Options.Whitelist replaces.
const whitelistRoutine = "greylist_whitelisted"

// objects reads the files, with what o replaces in them.
func (o Options) objects() (tables, routines []object, err error) {
	tables, routines, err = objects(o.Files)
	if err != nil {
		return nil, nil, err
	}
	for i, t := range tables {
		tables[i].create = strings.Replace(t.create, engineClause, "ENGINE="+o.engine(), 1)
	}
	for i, r := range routines {
		if o.Greylist != nil {
			routines[i].create = withConstants(r.create, o.Greylist.Constants())
		}
		if o.Whitelist != nil && r.name == whitelistRoutine {
			routines[i].create = o.Whitelist.SQL()
		}
	}
	return tables, routines, nil
}

// withConstants replaces the values that a routine declares.
func withConstants(create string, values map[string]int64) string {
	return constant.ReplaceAllStringFunc(create, func(line string) string {
		m := constant.FindStringSubmatch(line)
		value, ok := values[m[2]]
		if !ok {
			return line
		}
		return fmt.Sprintf("%s%d;", m[1], value)
	})
}

// Text is one of the files, by its name.
func Text(name string) (string, error) {
	text, err := files.ReadFile(name)
	return string(text), err
}

// FileNames lists the files of this package.
func FileNames() ([]string, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// objects reads the files, or what takes their places.
func objects(replaced map[string]string) (tables, routines []object, err error) {
	names, err := FileNames()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(replaced)) {
		if !slices.Contains(names, name) {
			return nil, nil, fmt.Errorf("%s takes the place of no file; there are %s", name, strings.Join(names, ", "))
		}
	}
	for _, name := range names {
		script, err := files.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		t, r, err := parse(name, string(script))
		if err != nil {
			return nil, nil, err
		}
		if text, ok := replaced[name]; ok {
			own := slices.Concat(t, r)
			if t, r, err = parse(name, text); err != nil {
				return nil, nil, err
			}
			if err := sameObjects(name, own, slices.Concat(t, r)); err != nil {
				return nil, nil, err
			}
		}
		tables, routines = append(tables, t...), append(routines, r...)
	}
	return tables, routines, nil
}

// parse takes a file apart.
func parse(name, script string) (tables, routines []object, err error) {
	statements, err := split(script)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, s := range statements {
		if m := createTable.FindStringSubmatch(s); m != nil {
			tables = append(tables, object{m[1], "TABLE", name, s})
		} else if m := createRoutine.FindStringSubmatch(s); m != nil {
			routines = append(routines, object{m[2], m[1], name, s})
		} else if !dropRoutine.MatchString(s) { // create does it
			return nil, nil, fmt.Errorf("%s: neither a table nor a routine: %.60q", name, s)
		}
	}
	return tables, routines, nil
}

// sameObjects holds a file against the one that it replaces.
func sameObjects(name string, own, other []object) error {
	list := func(objects []object) []string {
		var all []string
		for _, o := range objects {
			all = append(all, strings.ToLower(o.kind)+" "+o.name)
		}
		slices.Sort(all)
		return all
	}
	if want, got := list(own), list(other); !slices.Equal(want, got) {
		return fmt.Errorf("%s must create what the file creates that it replaces: %s; it creates: %s", name, strings.Join(want, ", "), strings.Join(got, ", "))
	}
	return nil
}

// Check says what is wrong with files that are to take the places of others.
func Check(replaced map[string]string) error {
	_, _, err := objects(replaced)
	return err
}

// Install creates the database and the tables through the first node, waits
// until every node sees them, and then creates the routines on every node: NDB
// shows databases and tables to all SQL nodes, but routines to none (MySQL
// manual, "Issues Exclusive to NDB Cluster"). What exists already stays, but
// routines are replaced. With an engine that does not share its tables, nodes
// must be one.
//
// A node that has just started refuses schema changes for a while. Install
// tries again until ctx ends, unless the error says that it never will succeed.
func Install(ctx context.Context, nodes []Admin, o Options) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("install the schema: %w", err)
	}
	if len(nodes) == 0 {
		return errors.New("install the schema: no SQL node is given")
	}
	tables, routines, err := o.objects()
	if err != nil {
		return fmt.Errorf("install the schema: %w", err)
	}
	first := nodes[0]
	err = retry(ctx, fmt.Sprintf("create database %s on %s", o.Database, first.Name), func() error {
		return execute(ctx, first.DB, "", "CREATE DATABASE IF NOT EXISTS "+o.Database)
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		err := retry(ctx, fmt.Sprintf("create table %s (%s) on %s", t.name, t.file, first.Name), func() error {
			return execute(ctx, first.DB, o.Database, t.create)
		})
		if err != nil {
			return err
		}
	}
	for _, node := range nodes {
		for _, t := range tables {
			err := retry(ctx, fmt.Sprintf("see table %s on %s", t.name, node.Name), func() error {
				return execute(ctx, node.DB, o.Database, "SELECT 1 FROM "+t.name+" LIMIT 1")
			})
			if err != nil {
				return err
			}
		}
		for _, r := range routines {
			if err := create(ctx, node, o, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Missing is a routine that a SQL node lacks.
type Missing struct {
	Routine string
	File    string // the file that has it
	Differs bool   // the node has another one of this name
}

func (m Missing) String() string {
	if m.Differs {
		return fmt.Sprintf("routine %s differs from %s", m.Routine, m.File)
	}
	return fmt.Sprintf("routine %s of %s is missing", m.Routine, m.File)
}

// Verify compares the bodies of the routines on one node with the files, but
// for comments and blanks, and returns what the node lacks. It tries once.
func Verify(ctx context.Context, node Admin, o Options) ([]Missing, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("verify routines: %w", err)
	}
	_, routines, err := o.objects()
	if err != nil {
		return nil, fmt.Errorf("verify routines: %w", err)
	}
	var missing []Missing
	for _, r := range routines {
		var body sql.NullString // NULL for an account that may not see it
		err := node.DB.QueryRowContext(ctx,
			"SELECT routine_definition FROM information_schema.routines WHERE routine_schema = ? AND routine_name = ?",
			o.Database, r.name).Scan(&body)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			missing = append(missing, Missing{Routine: r.name, File: r.file})
		case err != nil:
			return nil, fmt.Errorf("verify routine %s.%s on %s: %w", o.Database, r.name, node.Name, err)
		case normal(body.String) != normal(r.body()):
			missing = append(missing, Missing{Routine: r.name, File: r.file, Differs: true})
		}
	}
	return missing, nil
}

// Repair creates anew the routines that one node lacks. It is for a SQL node
// that came back, perhaps without its disk. It tries until ctx ends, as Install
// does.
func Repair(ctx context.Context, node Admin, o Options) error {
	var missing []Missing
	err := retry(ctx, "find missing routines on "+node.Name, func() (err error) {
		missing, err = Verify(ctx, node, o)
		return err
	})
	if err != nil {
		return err
	}
	_, routines, err := o.objects()
	if err != nil {
		return fmt.Errorf("repair routines: %w", err)
	}
	for _, m := range missing {
		for _, r := range routines {
			if r.name != m.Routine {
				continue
			}
			if err := create(ctx, node, o, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// create replaces one routine on one node.
func create(ctx context.Context, node Admin, o Options, r object) error {
	return retry(ctx, fmt.Sprintf("create routine %s (%s) on %s", r.name, r.file, node.Name), func() error {
		return execute(ctx, node.DB, o.Database, "DROP "+r.kind+" IF EXISTS "+r.name, r.create)
	})
}

// TakesWrites proves that a node takes real writes: it writes a row of the
// node's own to the table heartbeat and reads it back. It tries once.
func TakesWrites(ctx context.Context, node Admin, o Options) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("write to %s: %w", node.Name, err)
	}
	// A value that nobody has written before, and that a later one exceeds:
	// another prober of this node may write between our write and our read.
	beat := time.Now().UnixNano()
	table := o.Database + ".heartbeat"
	if _, err := node.DB.ExecContext(ctx, "REPLACE INTO "+table+" (node, beat) VALUES (?, ?)", []byte(node.Name), beat); err != nil {
		return fmt.Errorf("write a heartbeat to %s: %w", node.Name, err)
	}
	var read int64
	if err := node.DB.QueryRowContext(ctx, "SELECT beat FROM "+table+" WHERE node = ?", []byte(node.Name)).Scan(&read); err != nil {
		return fmt.Errorf("read the heartbeat of %s back: %w", node.Name, err)
	}
	if read < beat {
		return fmt.Errorf("the heartbeat of %s reads %d after %d was written and acknowledged", node.Name, read, beat)
	}
	return nil
}

// execute runs statements on one connection that has database as its default,
// if one is given.
func execute(ctx context.Context, db *sql.DB, database string, statements ...string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if database != "" {
		statements = append([]string{"USE " + database}, statements...)
	}
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return cause(ctx, conn, err)
		}
	}
	return nil
}

// cause finds what is behind MySQL error 1005, "Can't create table": the engine
// says why in a warning, such as 1297 with its own code.
func cause(ctx context.Context, conn *sql.Conn, err error) error {
	var server *mysql.MySQLError
	if !errors.As(err, &server) || server.Number != 1005 {
		return err
	}
	rows, failed := conn.QueryContext(ctx, "SHOW WARNINGS")
	if failed != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			level, message string
			number         uint16
		)
		if rows.Scan(&level, &number, &message) == nil && (number == 1296 || number == 1297) {
			// First, as it is what ndberr is to judge by.
			return fmt.Errorf("%w (%w)", &mysql.MySQLError{Number: number, Message: message}, err)
		}
	}
	return err
}

// The waits between tries: the first, and what doubling leads to.
const (
	firstWait = 50 * time.Millisecond
	maxWait   = time.Second
)

// retry calls try until it succeeds, fails for good, or ctx ends. What is done
// must be such that doing it twice does no harm.
func retry(ctx context.Context, what string, try func() error) error {
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w; the last error was: %w", what, context.Cause(ctx), err)
		}
		if !passing(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the last error was: %w", what, context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// passing says whether the same call may succeed later.
func passing(err error) bool {
	r := ndberr.Classify(err)
	return r.Retryable || r.Class == ndberr.Committed
}
