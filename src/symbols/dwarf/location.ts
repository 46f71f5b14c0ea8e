// Where a variable's value is at one point of the program: what an evaluated location description (DWARF 5, 2.6) says.

import type { AddressRange } from './ranges.ts';

/** What an expression may ask of the frame it is evaluated in. Addresses that it gives and takes are run-time ones. */
export interface FrameAccess {
  /** Link-time address that decides which entry of a location list holds: the frame's pc, for a caller one less. */
  readonly pc: bigint;
  /** Run-time minus link-time address. */
  readonly bias: bigint;
  /** The value of a DWARF register in this frame; undefined when it was not recovered. */
  register(number: number): bigint | undefined;
  /** The canonical frame address (6.4), for DW_OP_call_frame_cfa. */
  cfa(): Promise<bigint | undefined>;
  /** All bytes, or the error of the memory. */
  read(address: bigint, length: number): Promise<Uint8Array>;
  /** The frame that called this one, past inlined ones; for entry values (2.5.1.7). */
  caller(): Promise<FrameAccess | undefined>;
}

export type Location =
  | { readonly kind: 'memory'; readonly address: bigint }
  | { readonly kind: 'register'; readonly number: number }
  /** The value itself, which has no place (DW_OP_stack_value, DW_OP_implicit_value, DW_AT_const_value). Little endian;
   *  may be longer or shorter than the type. */
  | { readonly kind: 'value'; readonly bytes: Uint8Array }
  | ImplicitPointer
  /** In the order of the object's bits (2.6.1.2). */
  | { readonly kind: 'pieces'; readonly pieces: readonly Piece[] }
  /** Why there is no value: `optimised out`, `its register was not saved`. `ranges`: the code where there is one, link-time
   *  addresses. */
  | { readonly kind: 'none'; readonly why: string; readonly ranges?: readonly AddressRange[] };

/** A pointer that was optimised away (2.6.1.1.4). What it points to is `offset` bytes into what the entry at `die` of
 *  .debug_info describes: a variable, or a DW_TAG_dwarf_procedure that was made for it. */
export interface ImplicitPointer {
  readonly kind: 'implicitPointer';
  readonly die: number;
  readonly offset: bigint;
}

export interface Piece {
  readonly location: Location;
  /** Of the object. */
  readonly bitSize: number;
  /** Where the piece begins in its register or memory, from the least significant bit. */
  readonly bitOffset: number;
}
