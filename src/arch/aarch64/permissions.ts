// What a stage 1 translation allows at EL1 and EL0.
//
// Arm ARM (DDI 0487) D8.4 "Memory access control": direct permissions (AP, UXN, PXN and the hierarchical ones of table
// descriptors), or with TCR2_EL1.PIE indirect ones (FEAT_S1PIE, PIR_EL1 and PIRE0_EL1).

export interface Permissions {
  /** EL1 may write; also when the CPU makes the page writable by itself on a write (dirty state, TCR_EL1.HD). */
  readonly writable: boolean;
  /** EL0 may read or write. EL1 always reads what it has mapped, PAN apart. */
  readonly user: boolean;
  /** EL1 may execute. */
  readonly executable: boolean;
  readonly userExecutable: boolean;
}

/** The registers that the permissions depend on. */
export interface PermissionControl {
  readonly sctlr_el1: bigint;
  readonly tcr_el1: bigint;
  readonly tcr2_el1?: bigint | undefined;
  readonly pir_el1?: bigint | undefined;
  readonly pire0_el1?: bigint | undefined;
}

// Block and page descriptors:
//   6   AP[1]  EL0 access                54  UXN  not executable at EL0
//   7   AP[2]  read-only                 53  PXN  not executable at EL1
//   51  DBM    with TCR_EL1.HD, a read-only page that becomes writable on a write
// Table descriptors, unless TCR_EL1.HPDn:
//   61  APTable[0]  no EL0 access below  60  UXNTable
//   62  APTable[1]  read-only below      59  PXNTable
// SCTLR_EL1.WXN (19): what is writable is not executable. What EL0 can write, EL1 cannot execute.
const TCR_HD = 1n << 40n;
const SCTLR_WXN = 1n << 19n;
const TCR2_PIE = 1n << 1n;

const isSet = (value: bigint, position: number): boolean => ((value >> BigInt(position)) & 1n) === 1n;

export const isIndirect = ({ tcr2_el1 }: PermissionControl): boolean => ((tcr2_el1 ?? 0n) & TCR2_PIE) !== 0n;

/** The permissions that the last descriptor gives under the `tables` that led to it. */
export function permissionsOf(regs: PermissionControl, descriptor: bigint, tables: readonly bigint[]): Permissions {
  return isIndirect(regs) ? indirectPermissions(regs, descriptor) : directPermissions(regs, descriptor, tables);
}

function directPermissions(regs: PermissionControl, descriptor: bigint, tables: readonly bigint[]): Permissions {
  const any = (position: number) => tables.some((table) => isSet(table, position));
  const dirtyManaged = (regs.tcr_el1 & TCR_HD) !== 0n && isSet(descriptor, 51);
  const readOnly = (isSet(descriptor, 7) && !dirtyManaged) || any(62);
  const user = isSet(descriptor, 6) && !any(61);
  const writable = !readOnly;
  const writeNotExecute = (regs.sctlr_el1 & SCTLR_WXN) !== 0n && writable;
  const executable = !isSet(descriptor, 53) && !any(59) && !(user && writable) && !writeNotExecute;
  const userExecutable = !isSet(descriptor, 54) && !any(60) && !(writeNotExecute && user);
  return { writable, user, executable, userExecutable };
}

// PIR_EL1 and PIRE0_EL1: sixteen 4-bit permissions, chosen by PIIndex = descriptor bits 54, 53, 51, 6.
//   0 none  1 R  2 X  3 RX  5 RW  6 RW (X by overlay only)  7 RWX  8 R  9 R (guarded control stack)  10 RX  12 RW  14 RWX
// Bit 7 of the descriptor is then nDirty: not writable until the CPU (TCR_EL1.HD) or software clears it.
const READ: ReadonlySet<number> = new Set([1, 3, 5, 6, 7, 8, 9, 10, 12, 14]);
const WRITE: ReadonlySet<number> = new Set([5, 6, 7, 12, 14]);
const EXECUTE: ReadonlySet<number> = new Set([2, 3, 7, 10, 14]);

/** PIIndex of a block or page descriptor. */
export const permissionIndex = (descriptor: bigint): number =>
  (isSet(descriptor, 54) ? 8 : 0) |
  (isSet(descriptor, 53) ? 4 : 0) |
  (isSet(descriptor, 51) ? 2 : 0) |
  (isSet(descriptor, 6) ? 1 : 0);

const selected = (register: bigint | undefined, index: number): number =>
  Number(((register ?? 0n) >> BigInt(4 * index)) & 0xfn);

/** What a permission index gives: `RWX` or less. */
export function indirectNames(regs: PermissionControl, index: number): { readonly el1: string; readonly el0: string } {
  const nameOf = (register: bigint | undefined): string => {
    const permission = selected(register, index);
    const letters = [
      READ.has(permission) ? 'R' : '',
      WRITE.has(permission) ? 'W' : '',
      EXECUTE.has(permission) ? 'X' : '',
    ];
    return letters.join('') || 'none';
  };
  return { el1: nameOf(regs.pir_el1), el0: nameOf(regs.pire0_el1) };
}

function indirectPermissions(regs: PermissionControl, descriptor: bigint): Permissions {
  const index = permissionIndex(descriptor);
  const el1 = selected(regs.pir_el1, index);
  const el0 = selected(regs.pire0_el1, index);
  const clean = isSet(descriptor, 7) && (regs.tcr_el1 & TCR_HD) === 0n;
  return {
    writable: WRITE.has(el1) && !clean,
    user: READ.has(el0) || WRITE.has(el0),
    executable: EXECUTE.has(el1),
    userExecutable: EXECUTE.has(el0),
  };
}
