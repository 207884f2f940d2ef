package blob

import (
	"bytes"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// policy reads
//
//	SEQUENCE OF SEQUENCE {
//	  commandCode   [0] EXPLICIT INTEGER,
//	  commandPolicy [1] EXPLICIT OCTET STRING
//	}
//
// draft-bottomley-tpm2-keys, section 4.1 (TPMPolicy Syntax)
func (r *derReader) policy(name string) (commands []PolicyCommand) {
	r.inside(r.element(asn1.SEQUENCE, name), name, func(in *derReader) {
		for in.err == nil && len(in.s) > 0 {
			if len(commands) == maxCommands {
				in.err = damaged("%s has more than %d commands", name, maxCommands)
				return
			}
			in.inside(in.element(asn1.SEQUENCE, "TPMPolicy"), "TPMPolicy", func(in *derReader) {
				commands = append(commands, in.command())
			})
		}
	})
	return commands
}

func (r *derReader) command() (c PolicyCommand) {
	r.required(0, "commandCode", func(in *derReader) {
		if !in.s.ReadASN1Integer((*uint32)(&c.Code)) {
			in.err = damaged("commandCode is no command's")
		}
	})
	r.required(1, "commandPolicy", func(in *derReader) { c.Policy = in.octets("commandPolicy") })
	return c
}

// required is explicit for mandatory fields.
func (r *derReader) required(n uint8, name string, read func(in *derReader)) {
	r.inside(r.element(asn1.Tag(n).ContextSpecific().Constructed(), name), name, read)
}

// authPolicy reads
//
//	SEQUENCE OF SEQUENCE {
//	  name   [0] EXPLICIT UTF8String OPTIONAL,
//	  policy [1] EXPLICIT SEQUENCE OF TPMPolicy
//	}
//
// draft-bottomley-tpm2-keys, section 5.1 (TPMAuthPolicy Syntax)
func (r *derReader) authPolicy() (policies []AuthPolicy) {
	r.inside(r.element(asn1.SEQUENCE, "authPolicy"), "authPolicy", func(in *derReader) {
		for in.err == nil && len(in.s) > 0 {
			if len(policies) == maxPolicies {
				in.err = damaged("authPolicy has more than %d policies", maxPolicies)
				return
			}
			in.inside(in.element(asn1.SEQUENCE, "TPMAuthPolicy"), "TPMAuthPolicy", func(in *derReader) {
				var p AuthPolicy
				in.explicit(0, "name", func(in *derReader) { p.Name = in.text("name") })
				in.required(1, "policy", func(in *derReader) { p.Policy = in.policy("policy of authPolicy") })
				policies = append(policies, p)
			})
		}
	})
	return policies
}

func addPolicy(b *cryptobyte.Builder, commands []PolicyCommand) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, c := range commands {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addExplicit(b, 0, func(b *cryptobyte.Builder) { b.AddASN1Uint64(uint64(c.Code)) })
				addExplicit(b, 1, func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.Policy) })
			})
		}
	})
}

func addAuthPolicy(b *cryptobyte.Builder, policies []AuthPolicy) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, p := range policies {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				if p.Name != "" {
					addExplicit(b, 0, func(b *cryptobyte.Builder) { addText(b, p.Name) })
				}
				addExplicit(b, 1, func(b *cryptobyte.Builder) { addPolicy(b, p.Policy) })
			})
		}
	})
}

func addExplicit(b *cryptobyte.Builder, n uint8, add func(b *cryptobyte.Builder)) {
	b.AddASN1(asn1.Tag(n).ContextSpecific().Constructed(), add)
}

func addText(b *cryptobyte.Builder, s string) {
	b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

// samePolicy reports whether two policies have the same commands.
func samePolicy(a, b []PolicyCommand) bool {
	return slices.EqualFunc(a, b, func(a, b PolicyCommand) bool { return a.Code == b.Code && bytes.Equal(a.Policy, b.Policy) })
}

// clonePolicy copies a policy with its parameters.
func clonePolicy(commands []PolicyCommand) []PolicyCommand {
	var copies []PolicyCommand
	for _, c := range commands {
		copies = append(copies, PolicyCommand{Code: c.Code, Policy: bytes.Clone(c.Policy)})
	}
	return copies
}
