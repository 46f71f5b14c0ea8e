// Numbers and layouts of the KVM API (include/uapi/linux/kvm.h, arch/arm64/include/uapi/asm/kvm.h) and of the arm64
// system calls made in the VMM (include/uapi/asm-generic/unistd.h).

/** `_IOC` (include/uapi/asm-generic/ioctl.h): direction in bits 31:30, size in 29:16, type in 15:8, number in 7:0. */
const KVMIO = 0xaen;
const io = (number: number): bigint => (KVMIO << 8n) | BigInt(number);
const iow = (number: number, size: number): bigint => (1n << 30n) | (BigInt(size) << 16n) | io(number);
const iowr = (number: number, size: number): bigint => (3n << 30n) | (BigInt(size) << 16n) | io(number);

export const Kvm = {
  CHECK_EXTENSION: io(0x03),
  RUN: io(0x80),
  SET_USER_MEMORY_REGION: iow(0x46, 32),
  SET_USER_MEMORY_REGION2: iow(0x49, 160),
  SET_GUEST_DEBUG: iow(0x9b, 520),
  GET_ONE_REG: iow(0xab, 16),
  SET_ONE_REG: iow(0xac, 16),
  GET_REG_LIST: iowr(0xb0, 8),
} as const;

export const Capability = { SET_GUEST_DEBUG: 23, GUEST_DEBUG_HW_BPS: 119, GUEST_DEBUG_HW_WPS: 120 } as const;

export const Syscall = {
  ioctl: 29n,
  rt_sigaction: 134n,
  munmap: 215n,
  mmap: 222n,
  mprotect: 226n,
} as const;

export const Errno = { E2BIG: 7n, EINTR: 4n, EEXIST: 17n, EINVAL: 22n, EFAULT: 14n } as const;

/** struct kvm_run, the fields used. `debug.arch` is struct kvm_debug_exit_arch: hsr, hsr_high, far. */
export const KvmRun = { immediateExit: 1n, exitReason: 8n, debugHsr: 32n, debugFar: 40n } as const;

export const ExitReason = { DEBUG: 4, INTR: 10 } as const;

/** struct kvm_guest_debug: control, pad, then struct kvm_guest_debug_arch { u64 bcr[16], bvr[16], wcr[16], wvr[16] }. */
export const guestDebug = {
  size: 520,
  ENABLE: 1,
  SINGLESTEP: 2,
  USE_SW_BP: 1 << 16,
  USE_HW: 1 << 17,
  bcr: 8,
  bvr: 136,
  wcr: 264,
  wvr: 392,
} as const;

/** struct kvm_userspace_memory_region: slot, flags, guest_phys_addr, memory_size, userspace_addr. */
export interface MemoryRegion {
  readonly slot: number;
  readonly flags: number;
  readonly gpa: bigint;
  readonly size: bigint;
  readonly hva: bigint;
}

export function encodeMemoryRegion(region: MemoryRegion): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, region.slot, true);
  view.setUint32(4, region.flags, true);
  view.setBigUint64(8, region.gpa, true);
  view.setBigUint64(16, region.size, true);
  view.setBigUint64(24, region.hva, true);
  return bytes;
}

export function decodeMemoryRegion(bytes: Uint8Array): MemoryRegion {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    slot: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    gpa: view.getBigUint64(8, true),
    size: view.getBigUint64(16, true),
    hva: view.getBigUint64(24, true),
  };
}
