// What a stage 1 descriptor says beside its address, field by field.
//
// Arm ARM (DDI 0487) D8.3 "Translation table descriptor formats". Table descriptors, without effect where TCR_EL1.HPDn or
// TCR2_EL1.PIE says so:
//   62:61  APTable   61 no EL0 access below, 62 read-only below      60  UXNTable      59  PXNTable
// Block and page descriptors:
//   62:59  PBHA, or bits of FEAT_AIE and FEAT_S1POE   11    nG    not global: of one ASID
//   58:55  for software                               10    AF    access flag
//   54     UXN                                        9:8   SH    shareability; with TCR_EL1.DS address bits 51:50
//   53     PXN                                        7:6   AP    7 read-only, 6 EL0 access
//   52     Contiguous                                 4:2   AttrIndx, whose bit 3 is bit 59 with TCR2_EL1.AIE
//   51     DBM       dirty bit modifier
//   50     GP        guarded page (FEAT_BTI)
// With TCR2_EL1.PIE bits 54, 53, 51 and 6 are PIIndex, and bit 7 is nDirty.

import { hex } from '../../base/address.ts';
import type { WalkAttribute } from '../pageWalk.ts';
import { memoryType } from './memoryType.ts';
import type { Half, TranslationRegisters, WalkStep } from './mmu.ts';
import { indirectNames, isIndirect, permissionIndex } from './permissions.ts';

export interface AttributeRegisters extends TranslationRegisters {
  readonly mair_el1?: bigint | undefined;
  readonly mair2_el1?: bigint | undefined;
}

// Positions in TCR_EL1 and TCR2_EL1 (D24.2).
const TCR_SH0 = 12;
const TCR_SH1 = 28;
const TCR_HA = 39;
const TCR_HD = 40;
const TCR2_AIE = 4;

const shareability = ['non-shareable', 'reserved shareability', 'outer shareable', 'inner shareable'];
const access = [
  'EL1 read/write, EL0 none',
  'EL1 and EL0 read/write',
  'EL1 read-only, EL0 none',
  'EL1 and EL0 read-only',
];

const field = (value: bigint, high: number, low = high): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);

/** The fields of a descriptor; none of one that is invalid. */
export function attributesOf(
  { descriptor, kind }: Pick<WalkStep, 'descriptor' | 'kind'>,
  half: Half,
  regs: AttributeRegisters,
): readonly WalkAttribute[] {
  if (kind === 'invalid') return [];
  if (kind === 'table') return tableAttributes(descriptor, half.hierarchical && !isIndirect(regs));
  return [
    memory(descriptor, regs),
    shared(descriptor, half, regs),
    ...permissions(descriptor, regs),
    accessFlag(descriptor, regs),
    flag('nG', field(descriptor, 11), 'of one ASID', 'global'),
    flag('Contiguous', field(descriptor, 52), 'its neighbours lead on from it', 'by itself', 'contiguous'),
    flag('GP', field(descriptor, 50), 'branch targets are guarded', 'not guarded'),
    numbered('software', field(descriptor, 58, 55)),
  ];
}

/** A bit, named in short when it is set. */
const flag = (name: string, value: bigint, set: string, clear: string, short = name): WalkAttribute => ({
  name,
  value,
  meaning: value === 0n ? clear : set,
  short: value === 0n ? '' : short,
});

const numbered = (name: string, value: bigint): WalkAttribute => ({
  name,
  value,
  meaning: undefined,
  short: value === 0n ? '' : `${name} ${hex(value)}`,
});

const told = (name: string, value: bigint, meaning: string): WalkAttribute => ({
  name,
  value,
  meaning,
  short: meaning,
});

function tableAttributes(descriptor: bigint, isInEffect: boolean): readonly WalkAttribute[] {
  const suffix = isInEffect ? '' : ' (not in effect)';
  const one = (name: string, value: bigint, set: string): WalkAttribute =>
    flag(name, value, `${set}${suffix}`, 'no restriction', `${name}${value > 1n ? ` ${value}` : ''}${suffix}`);
  const ap = field(descriptor, 62, 61);
  const kinds = ['', 'no EL0 access below', 'read-only below', 'no EL0 access and read-only below'];
  return [
    one('APTable', ap, kinds[Number(ap)] ?? ''),
    one('UXNTable', field(descriptor, 60), 'not executable at EL0 below'),
    one('PXNTable', field(descriptor, 59), 'not executable at EL1 below'),
  ];
}

function memory(descriptor: bigint, regs: AttributeRegisters): WalkAttribute {
  const isExtended = field(regs.tcr2_el1 ?? 0n, TCR2_AIE) === 1n;
  const low = field(descriptor, 4, 2);
  const isSecond = isExtended && field(descriptor, 59) === 1n;
  const types = isSecond ? regs.mair2_el1 : regs.mair_el1;
  const type = types === undefined ? 'memory type unknown' : memoryType(Number((types >> (8n * low)) & 0xffn));
  return told('AttrIndx', isSecond ? low + 8n : low, type);
}

/** Where descriptors hold addresses of 52 bits in the place of SH, TCR_EL1 says how all of them are shared. */
function shared(descriptor: bigint, half: Half, { tcr_el1 }: AttributeRegisters): WalkAttribute {
  const low = half.upper ? TCR_SH1 : TCR_SH0;
  const value = half.lpa2 ? field(tcr_el1, low + 1, low) : field(descriptor, 9, 8);
  const name = half.lpa2 ? `TCR_EL1.SH${half.upper ? 1 : 0}` : 'SH';
  return told(name, value, shareability[Number(value)] ?? '');
}

function accessFlag(descriptor: bigint, { tcr_el1 }: AttributeRegisters): WalkAttribute {
  const value = field(descriptor, 10);
  const unset = field(tcr_el1, TCR_HA) ? 'the CPU sets it on an access' : 'an access faults';
  return { name: 'AF', value, meaning: value ? 'accessed' : unset, short: value ? 'AF' : `no AF: ${unset}` };
}

function permissions(descriptor: bigint, regs: AttributeRegisters): readonly WalkAttribute[] {
  if (isIndirect(regs)) {
    const index = permissionIndex(descriptor);
    const { el1, el0 } = indirectNames(regs, index);
    return [
      told('PIIndex', BigInt(index), `EL1 ${el1}, EL0 ${el0}`),
      flag('nDirty', field(descriptor, 7), 'clean: not writable yet', 'dirty'),
    ];
  }
  const isManaged = field(regs.tcr_el1, TCR_HD) === 1n;
  const ap = field(descriptor, 7, 6);
  return [
    told('AP', ap, access[Number(ap)] ?? ''),
    flag('UXN', field(descriptor, 54), 'not executable at EL0', 'executable at EL0'),
    flag('PXN', field(descriptor, 53), 'not executable at EL1', 'executable at EL1'),
    flag('DBM', field(descriptor, 51), isManaged ? 'becomes writable on a write' : 'for software', 'no'),
  ];
}
