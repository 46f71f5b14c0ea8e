// Which registers control the translation of a vCPU's addresses (Arm ARM, DDI 0487, D8.1 "Translation regimes").

import { exceptionLevel } from './pstate.ts';

// HCR_EL2 (D24.2): 27 TGE, 34 E2H.
const TGE = 1n << 27n;
const E2H = 1n << 34n;

/** The suffix of SCTLR, TCR, TTBR0 and TTBR1. With E2H EL2 has a host kernel, and registers that are laid out as EL1's; with
 *  TGE too EL0 is that kernel's user space. Undefined for regimes with one table: EL3's, and EL2's without E2H. `hcr`: 0
 *  where there is no EL2. */
export function translationRegime(pstate: bigint, hcr: bigint): 'el1' | 'el2' | undefined {
  const level = exceptionLevel(pstate);
  if ((hcr & E2H) !== 0n && (level === 2 || (level === 0 && (hcr & TGE) !== 0n))) return 'el2';
  return level < 2 ? 'el1' : undefined;
}
