package keymgr

import (
	"encoding/binary"
	"errors"
	"slices"

	"maclef/blob"
	"maclef/internal/chip"
)

// The contexts of keys are saved on disk from their first use until the TPM's next reset, so
// that the first signature of a program is fast. Before a secret is used with such a context,
// the TPM says which key it is. Contexts are not saved for sessions, for keys of the null
// hierarchy, for keys that needed the secret of a parent or a hierarchy, and for data sealed to a TPM
// 1.2, whose storage key the TPM does not tell without its secret.

// nameOfKey returns the name of a key's entry in the cache; empty if it must have none. The
// name depends on the private part, because another private part may have another secret.
func (m *Manager) nameOfKey(k blob.Key) string {
	if k, ok := k.(*blob.TPMKey); ok {
		return m.cache.Name([]byte("key"), k.Bytes())
	}
	t, ok := k.(*blob.TSS2)
	if !ok || t.Handle != 0 || t.Parent == nullHierarchy {
		return ""
	}
	return m.cache.Name([]byte("key"), binary.BigEndian.AppendUint32(nil, t.Parent), t.Public, t.Private)
}

// nullHierarchy is the hierarchy whose keys end with each reset.
const nullHierarchy = 0x40000007

// entryFor returns the name of h's entry; empty if h must not be saved on disk.
func (m *Manager) entryFor(h *Key, with *secrets) string {
	if with.parent == nil || slices.ContainsFunc(with.parent, func(b byte) bool { return b != 0 }) {
		return "" // the parent has a secret, or may have one
	}
	if h.needsSecret && m.chip.Generation() == chip.TPM12 {
		return "" // without the secret, the TPM cannot tell which key the context is
	}
	return m.nameOfKey(h.file)
}

// recall loads a key from its context on disk. It returns nil if there is none, or if it is
// of another key.
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
