package keymgr

import (
	"encoding/binary"
	"errors"
	"slices"

	"maclef/blob"
	"maclef/internal/chip"
)

// Contexts of keys are kept on disk from the first use of a key to the TPM's next reset, so
// that a first signature is as quick as a second one. A context from there is not believed:
// before a secret meets what it loads, the TPM tells what that is. There are none of
// sessions, none of the null hierarchy, and none of what took the secret of a parent or of
// a hierarchy.

// nameOfKey names the entry of a key in the cache; it is empty where there is none to be. A
// file with another private part may have another secret.
func (m *Manager) nameOfKey(k blob.Key) string {
	if k, ok := k.(*blob.TPMKey); ok {
		return m.cache.Name([]byte("key"), k.Bytes())
	}
	t := k.(*blob.TSS2)
	if t.Handle != 0 || t.Parent == nullHierarchy {
		return ""
	}
	return m.cache.Name([]byte("key"), binary.BigEndian.AppendUint32(nil, t.Parent), t.Public, t.Private)
}

// nullHierarchy ends with each reset, and its keys with it.
const nullHierarchy = 0x40000007

// entryFor names the entry of a key that may be kept there, empty for the others.
func (m *Manager) entryFor(h *Key, with *secrets) string {
	if with.parent == nil || slices.ContainsFunc(with.parent, func(b byte) bool { return b != 0 }) {
		return "" // the parent has a secret, or may have one
	}
	if h.needsSecret && m.chip.Generation() == chip.TPM12 {
		return "" // what it loads could not be told from another key without the secret
	}
	return m.nameOfKey(h.file)
}

// recall loads a key from its context on disk. It is nil where that is not there, or not
// of this key.
func (m *Manager) recall(h *Key) (chip.LoadedKey, error) {
	saved := m.cache.Read(h.entry)
	if saved == nil {
		return nil, nil
	}
	in, err := m.chip.Restore(h.file, nil, saved)
	switch class := m.chip.ClassOf(err); {
	case errors.Is(err, chip.ErrOtherContext):
		m.cache.Remove(h.entry)
	case class == chip.ClassNone:
		h.context, h.recalled = saved, true
	case class == chip.ClassRefused, class == chip.ClassLost:
		m.cache.Remove(h.entry)
		return nil, nil
	}
	return in, err
}
