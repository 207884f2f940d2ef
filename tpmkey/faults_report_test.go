package tpmkey_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// reportFaults fails the subtest name with a table of violations, or passes it.
func reportFaults(t *testing.T, name string, violations []violation) {
	t.Run(name, func(t *testing.T) {
		if len(violations) > 0 {
			t.Errorf("%d violations:\n%s", len(violations), faultTable(violations))
		}
	})
}

// traceFaults tells all that happened where one case, or a few, are looked at.
func traceFaults(t *testing.T, findings []*finding, violations []violation) {
	const few = 3
	bad := map[*faultCase]bool{}
	for _, v := range violations {
		bad[v.c] = true
	}
	for _, f := range findings {
		if len(findings) > few && (*onlyFault == "" || len(bad) > few || !bad[f.c]) {
			continue
		}
		t.Logf("%s:", f.c)
		for i, e := range f.exchanges {
			for _, r := range f.results {
				if r.first == i && !r.skipped {
					t.Logf("  %s: %v, %v", r.step, r.err, r.wrong)
				}
			}
			t.Logf("%5d %s %x -> %.40x", i, e.Name(), e.Command, e.Response)
		}
	}
}

// faultTable groups violations by rule, and by the class of fault and the command that
// it happened to.
func faultTable(violations []violation) string {
	rules := grouped(violations, func(v violation) string { return v.rule })
	var b strings.Builder
	for _, rule := range rules {
		fmt.Fprintf(&b, "\nNOT KEPT: %s (%d)\n", rule[0].rule, len(rule))
		rows := grouped(rule, func(v violation) string {
			p := v.c.planned()
			return fmt.Sprintf("%-14s %-13s %-20s %s", v.c.class, p.step, p.name, v.c.key.name)
		})
		for _, row := range rows {
			p := row[0].c.planned()
			fmt.Fprintf(&b, "%5d  %-14s %-13s %-20s %-16s %s\n", len(row), row[0].c.class, p.step, p.name, row[0].c.key.name, faultNames(row))
			fmt.Fprintf(&b, "       e.g. -fault %q: %s\n", row[0].c, shortText(row[0].detail, 220))
		}
	}
	return b.String()
}

// grouped splits violations by a key, in the order of the keys.
func grouped(all []violation, key func(violation) string) (groups [][]violation) {
	byKey := map[string][]violation{}
	var keys []string
	for _, v := range all {
		k := key(v)
		if byKey[k] == nil {
			keys = append(keys, k)
		}
		byKey[k] = append(byKey[k], v)
	}
	slices.Sort(keys)
	for _, k := range keys {
		groups = append(groups, byKey[k])
	}
	return groups
}

// faultNames lists the faults of a row, shortened.
func faultNames(row []violation) string {
	var all []string
	for _, v := range row {
		name := strings.TrimPrefix(v.c.fault.Name, "code ")
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return shortText(strings.Join(all, ", "), 160)
}

func shortText(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
