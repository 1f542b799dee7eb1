package engine

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestAlive(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence, owner string
		want            bool
	}{
		{"this process lives", Owner(), true},
		{"a process that has ended does not", fmt.Sprintf("%d:1:%s", gone.Process.Pid, pidNamespace()), false},
		{"a later process with the same id is another one", fmt.Sprintf("%d:1:%s", os.Getpid(), pidNamespace()), false},
		{"a process of another pid namespace may live", fmt.Sprintf("%d:1:pid:[1]", gone.Process.Pid), true},
		{"what is no process id names nobody", "x:1:" + pidNamespace(), false},
		{"process groups are no owners", "-1:1:" + pidNamespace(), false},
		{"half a name names nobody", fmt.Sprint(os.Getpid()), false},
		{"nobody does not live", "", false},
	} {
		if got := Alive(row.owner); got != row.want {
			t.Errorf("%s: Alive(%q) = %v", row.sentence, row.owner, got)
		}
	}
}
