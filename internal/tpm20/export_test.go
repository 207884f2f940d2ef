package tpm20

import "reflect"

// SizeOf is the length of what go-tpm has read of a reply's parameter.
func SizeOf(v any) int { return sizeOf(reflect.ValueOf(v).Elem()) }
