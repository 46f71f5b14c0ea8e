// Addresses are branded bigints, so that one address space is never mistaken for another. A Gva becomes a Gpa only in
// an MMU walk, a Gpa becomes an Hva only in the memory slot table of the VM.

declare const space: unique symbol;

/** Guest virtual address, unsigned 64 bits. */
export type Gva = bigint & { readonly [space]: 'gva' };
/** Guest physical address (Arm: IPA), unsigned 64 bits. */
export type Gpa = bigint & { readonly [space]: 'gpa' };
/** Host virtual address in the VMM process, unsigned 64 bits. */
export type Hva = bigint & { readonly [space]: 'hva' };

export const Gva = (value: bigint): Gva => BigInt.asUintN(64, value) as Gva;
export const Gpa = (value: bigint): Gpa => BigInt.asUintN(64, value) as Gpa;
export const Hva = (value: bigint): Hva => BigInt.asUintN(64, value) as Hva;

/** `0x` and lower-case digits, no padding: the form DAP references and messages use. */
export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
