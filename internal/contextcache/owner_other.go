//go:build !unix

package contextcache

import "io/fs"

// ownedByUser knows no owners here: there is no cache.
func ownedByUser(fs.FileInfo) bool { return false }
