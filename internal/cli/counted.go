package cli

import "fmt"

// Counted is a number with its noun: "1 key", "2 keys".
func Counted[N int | int64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
