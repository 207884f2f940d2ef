package main

import (
	"fmt"
	"math"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"maclef/internal/cli"
)

// userList is the value of -user.
type userList []string

func (u *userList) String() string { return strings.Join(*u, ",") }

func (u *userList) Set(text string) error {
	names := strings.Split(text, ",")
	if slices.Contains(names, "") {
		return cli.Usagef("it takes names of users, separated by commas")
	}
	*u = append(*u, names...)
	return nil
}

// ids returns the users who may open files: root, and those of the list or else the owner.
func (u userList) ids(owner int) ([]int, error) {
	ids := []int{0}
	if len(u) == 0 {
		ids = append(ids, owner)
	}
	for _, name := range u {
		id, err := userID(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// userID finds a user by name, or by number. The highest 32-bit number stands for no user.
func userID(name string) (int, error) {
	text := name
	if found, err := user.Lookup(name); err == nil {
		text = found.Uid
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == math.MaxUint32 || id > math.MaxInt {
		return 0, fmt.Errorf("-user %s: there is no such user", name)
	}
	return int(id), nil
}

func userName(id int) string {
	if found, err := user.LookupId(strconv.Itoa(id)); err == nil {
		return found.Username
	}
	return strconv.Itoa(id)
}

func userNames(ids []int) string {
	var names []string
	for _, id := range ids {
		names = append(names, userName(id))
	}
	return strings.Join(names, ", ")
}
