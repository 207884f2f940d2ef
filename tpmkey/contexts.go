package tpmkey

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"maclef/blob"
	"maclef/internal/contextcache"
	"maclef/internal/transport"
)

// contexts are the saved contexts of one TPM that this user's programs keep on disk, from
// the first use of a key to the TPM's next reset. A first signature is as quick as a second
// one then.
//
// A context from disk is not believed: before a secret or a salt meets what it loads, the
// TPM tells what that is. There are none of sessions, none of the null hierarchy, and none
// of what took the secret of a parent or of a hierarchy.
type contexts struct {
	cache *contextcache.Cache // nil for none
	tpm   string              // its name; which TPM a context is of, only that TPM knows
}

// A host is what a chip knows of the machine around it.
type host struct {
	contexts
	note func(text string) // is told before something that may take long; may be nil
}

// openCache opens the cache for a TPM. Tests replace it.
var openCache = func(tpm string) (*contextcache.Cache, error) { return contextcache.Open() }

// openContexts has none where the folder cannot be used.
func openContexts(tpm string) contexts {
	cache, _ := openCache(tpm)
	return contexts{cache, tpm}
}

// ofKey names the entry of a key, empty where there is none to be. A file with another
// private part may have another secret.
func (c *contexts) ofKey(k *blob.Key) string {
	if k.TSS2 == nil {
		return contextcache.Name([]byte(c.tpm), []byte("key"), k.Bytes())
	}
	t := k.TSS2
	if t.Handle != 0 || t.Parent == nullHierarchy {
		return ""
	}
	return contextcache.Name([]byte(c.tpm), []byte("key"), binary.BigEndian.AppendUint32(nil, t.Parent), t.Public, t.Private)
}

// ofParent names the entry of a primary.
func (c *contexts) ofParent(id parentID) string {
	return contextcache.Name([]byte(c.tpm), []byte("primary"), binary.BigEndian.AppendUint32(nil, uint32(id.handle)), []byte{byte(id.primary)})
}

// ofUnfit names the entry which says that no parent fits a key.
func (c *contexts) ofUnfit(k *blob.Key) string {
	return contextcache.Name([]byte(c.tpm), []byte("no parent"), binary.BigEndian.AppendUint32(nil, k.TSS2.Parent), k.TSS2.Public, k.TSS2.Private)
}

// errOtherContext refuses a context on disk that is not of what its name says.
// Nothing else was sent.
var errOtherContext = fmt.Errorf("the context on disk is of something else: %w", transport.ErrNotSent)

// nullHierarchy ends with each reset, and its keys with it.
const nullHierarchy = 0x40000007

// onDisk names the entry of a key that may be kept there, empty for the others.
func (t *TPM) onDisk(h *keyState, with *secrets) string {
	if t.contexts.cache == nil || with.parent == nil || slices.ContainsFunc(with.parent, func(b byte) bool { return b != 0 }) {
		return "" // the parent has a secret, or may have one
	}
	if h.needsSecret && t.chip.generation() == tpm12Family {
		return "" // what it loads could not be told from another key without the secret
	}
	return t.contexts.ofKey(h.file)
}

// recall loads a key from its context on disk. It is nil where that is not there, or not
// of this key.
func (t *TPM) recall(h *keyState) (loadedKey, error) {
	saved := t.contexts.cache.Read(h.entry)
	if saved == nil {
		return nil, nil
	}
	in, err := t.chip.recall(h.file, saved)
	switch class := t.chip.classOf(err); {
	case errors.Is(err, errOtherContext):
		t.contexts.cache.Remove(h.entry)
	case class == classNone:
		h.context, h.recalled = saved, true
	case class == classRefused, class == classLost:
		t.contexts.cache.Remove(h.entry)
		return nil, nil
	}
	return in, err
}

// knownUnfit reports whether another program has found that no parent fits a key. That was
// noted with the context of the likeliest one, and holds as long as the TPM loads that.
func (c *chip20) knownUnfit(likeliest parentID, k *blob.Key) bool {
	noted := c.host.cache.Read(c.host.ofUnfit(k))
	if len(noted) != sha256.Size || !c.hasContext(likeliest) {
		return false
	}
	object, err := c.bringParent(likeliest, nil)
	if err != nil {
		return false
	}
	c.conn.Flush(object.Handle)
	return bytes.Equal(noted, c.markOf(likeliest))
}

// noteUnfit notes that no parent fits a key.
func (c *chip20) noteUnfit(likeliest parentID, k *blob.Key) {
	if mark := c.markOf(likeliest); mark != nil && likeliest.handle != tpm2.TPMRHNull {
		c.host.cache.Write(c.host.ofUnfit(k), mark)
	}
}

// markOf stands for a parent's context, nil where there is none.
func (c *chip20) markOf(id parentID) []byte {
	known := c.parents[id]
	if known == nil || known.context == nil {
		return nil
	}
	mark := sha256.Sum256(known.context)
	return mark[:]
}
