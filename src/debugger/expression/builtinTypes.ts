// Types that need no debug information. Both supported ABIs are LP64 (AAPCS64 10.1.2; System V psABI figure 3.1).

import type { BaseType, ScalarEncoding, Type } from '../../symbols/types.ts';

const base = (name: string, size: number, encoding: ScalarEncoding): BaseType => ({
  kind: 'base',
  name,
  size,
  encoding,
});

export const signedInt = base('int', 4, 'signed');
export const unsignedInt = base('unsigned int', 4, 'unsigned');
export const signedLong = base('long', 8, 'signed');
export const unsignedLong = base('unsigned long', 8, 'unsigned');
/** What a register holds, and a symbol of unknown type stands for: shown in hexadecimal, with the symbol it points to. */
export const word = base('unsigned long', 8, 'unsigned');
export const doubleWord = base('unsigned __int128', 16, 'unsigned');

// Plain char is unsigned in the AAPCS64, and in every kernel since v6.2 (-funsigned-char).
const named: readonly (readonly [names: string, size: number, encoding: ScalarEncoding])[] = [
  ['u8 __u8 uint8_t uchar', 1, 'unsigned'],
  ['u16 __u16 uint16_t ushort', 2, 'unsigned'],
  ['u32 __u32 uint32_t uint', 4, 'unsigned'],
  ['u64 __u64 uint64_t ulong size_t uintptr_t phys_addr_t dma_addr_t', 8, 'unsigned'],
  ['s8 __s8 int8_t', 1, 'signed'],
  ['s16 __s16 int16_t', 2, 'signed'],
  ['s32 __s32 int32_t pid_t', 4, 'signed'],
  ['s64 __s64 int64_t ssize_t intptr_t ptrdiff_t loff_t', 8, 'signed'],
  ['bool _Bool', 1, 'boolean'],
  ['float', 4, 'float'],
  ['double', 8, 'float'],
];

const byName = new Map<string, Type>([
  ['void', { kind: 'void' }],
  ...named.flatMap(([names, size, encoding]) =>
    names.split(' ').map((name) => [name, base(name, size, encoding)] as const),
  ),
]);

const typeWords: ReadonlySet<string> = new Set(['char', 'short', 'int', 'long', 'unsigned', 'signed']);

/** A built-in type by its name: one of the kernel's and stdint's, or C's words in any order (C11 6.7.2). */
export function builtinType(name: string): Type | undefined {
  const known = byName.get(name);
  if (known !== undefined) return known;
  const words = name.split(' ');
  if (!words.every((each) => typeWords.has(each))) return undefined;
  const has = (each: string): boolean => words.includes(each);
  const signed = !has('unsigned');
  const prefix = signed ? '' : 'unsigned ';
  if (has('char')) {
    if (has('signed')) return base('signed char', 1, 'signedChar');
    return base(`${prefix}char`, 1, 'unsignedChar');
  }
  if (has('short')) return base(`${prefix}short`, 2, signed ? 'signed' : 'unsigned');
  if (has('long')) return signed ? signedLong : unsignedLong;
  return signed ? signedInt : unsignedInt;
}
