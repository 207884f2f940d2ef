package cli

import (
	"fmt"
	"runtime"
)

// version is that of all commands.
const version = "0.1.0"

// VersionText is what -version prints.
func VersionText(command string) string {
	return fmt.Sprintf("%s (maclef) %s, %s, %s/%s\n", command, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
