// What a row of the call frame information says (DWARF 5, 6.4.1): how to find the canonical frame address and the
// caller's registers at one address. Registers are DWARF register numbers.

export type CfaRule =
  | { readonly kind: 'register'; readonly register: number; readonly offset: bigint }
  | { readonly kind: 'expression'; readonly bytes: Uint8Array };

/** How to recover a register of the caller. A register without a rule in the row has no rule in the CFI either: what
 *  that means (preserved or lost) is the ABI's business.
 *  - undefined: not recoverable          - same: not modified by this frame
 *  - offset: saved at address CFA+offset - valOffset: the value is CFA+offset
 *  - register: is in another register    - expression: saved at the computed address - valExpression: the value */
export type RegisterRule =
  | { readonly kind: 'undefined' | 'same' }
  | { readonly kind: 'offset' | 'valOffset'; readonly offset: bigint }
  | { readonly kind: 'register'; readonly register: number }
  | { readonly kind: 'expression' | 'valExpression'; readonly bytes: Uint8Array };

export interface UnwindRow {
  /** First address the row holds for, and the first after it. Link-time addresses. */
  readonly start: bigint;
  readonly end: bigint;
  readonly cfa: CfaRule;
  readonly registers: ReadonlyMap<number, RegisterRule>;
  /** The DWARF register (or column) that holds the return address. */
  readonly returnAddress: number;
  /** The frame was interrupted rather than calling: its pc is not to be decremented (augmentation `S`). */
  readonly signalFrame: boolean;
  /** The return address carries a pointer authentication code (DW_CFA_AARCH64_negate_ra_state, AADWARF64 4.4.5). */
  readonly returnAddressSigned: boolean;
}
