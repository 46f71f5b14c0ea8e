import type { Architecture } from '../arch/architecture.ts';
import { Gva, hex } from '../base/address.ts';
import type { VirtualMemory } from '../base/memory.ts';

// Where Linux leaves the registers of what an exception interrupted. On arm64 `kernel_entry` (arch/arm64/kernel/
// entry.S) builds a struct pt_regs at the stack pointer of the handler (arch/arm64/include/asm/ptrace.h):
//     0  regs[31]   x0-x30
//   248  sp
//   256  pc
//   264  pstate
//   272  orig_x0, syscallno, …          differs between releases
//   304  stackframe {fp, lr}             v4.10 (commit 7326749801396105) to v6.12
//   296  stackframe {{fp, lr}, type}     from v6.13 (commit c2c6b27b5aa14)
// and points x29 at `stackframe`. Its record is {interrupted x29, interrupted pc} for an exception from the kernel
// before v6.13, and {0, 0} for one from user space and for all since, where `type` is 2 (FRAME_META_TYPE_PT_REGS).
const registersSize = 272;
const stackFrameOffsets = [304n, 296n];
export const metadataPtRegs = 2n;
const modeEl0 = 0n;

/** Registers of the interrupted context, and whether it was user space. */
export interface InterruptedContext {
  readonly registers: ReadonlyMap<string, bigint>;
  readonly user: boolean;
}

// The handlers that `kernel_ventry` branches to: el1h_64_irq and so on since v5.13 (commit a5b43a87a7f27), el1_irq and
// so on before.
const handlerName = /^el([01])[ht]?(?:_(?:64|32))?_(?:sync|irq|fiq|error|sync_compat|irq_compat|error_compat)$/;
// What the handlers jump to on their way out still runs on the same pt_regs.
const exitName = /^ret_to_(?:kernel|user)$/;

/** Whether code of this symbol runs on top of a saved context, and so has no caller but what it interrupted. */
export const isExceptionEntry = (architecture: Architecture, symbol: string): boolean =>
  architecture.name === 'aarch64' && (handlerName.test(symbol) || exitName.test(symbol));

/** The context that the exception entry code `symbol` saved. `stack` and `frame` are its stack and frame pointers,
 *  as far as known. A string says why there is none: nothing is guessed, the saved frame record must agree. */
export async function interruptedContext(
  memory: VirtualMemory,
  symbol: string,
  stack: bigint | undefined,
  frame: bigint | undefined,
): Promise<InterruptedContext | string> {
  const fromUser = handlerName.exec(symbol)?.[1];
  const bases = new Set<bigint>();
  if (frame !== undefined) for (const offset of stackFrameOffsets) bases.add(frame - offset);
  const ordered = [...bases].sort((a, b) => Number(b === stack) - Number(a === stack));
  for (const base of ordered) {
    if (base < 0n || base % 16n !== 0n) continue;
    const found = await savedAt(memory, base, frame ?? 0n);
    if (!found) continue;
    if (fromUser !== undefined && found.user !== (fromUser === '0')) continue;
    return found;
  }
  const where = stack === undefined ? '' : ` at ${hex(stack)}`;
  return `the registers that ${symbol} saved${where} are not complete`;
}

async function savedAt(memory: VirtualMemory, base: bigint, record: bigint): Promise<InterruptedContext | undefined> {
  let saved: DataView;
  let words: DataView;
  try {
    saved = view(await memory.read(Gva(base), registersSize));
    words = view(await memory.read(Gva(record), 24));
  } catch {
    return undefined;
  }
  const registers = new Map<string, bigint>();
  for (let n = 0; n < 31; n++) registers.set(`x${n}`, saved.getBigUint64(8 * n, true));
  registers.set('sp', saved.getBigUint64(248, true));
  registers.set('pc', saved.getBigUint64(256, true));
  const pstate = saved.getBigUint64(264, true);
  registers.set('pstate', pstate);

  // SPSR_EL1 (Arm ARM, C5.2.19): M[4] is 1 for AArch32; M[3:0] is 0 for EL0t, 4, 5 for EL1, 8, 9 for EL2.
  const user = (pstate & 0x10n) !== 0n || (pstate & 0xfn) === modeEl0;
  if (!user && ![4n, 5n, 8n, 9n].includes(pstate & 0xfn)) return undefined;
  const [fp, lr, type] = [0, 8, 16].map((offset) => words.getBigUint64(offset, true));
  const plain = fp === registers.get('x29') && lr === registers.get('pc') && !user;
  const empty = fp === 0n && lr === 0n && (user || type === metadataPtRegs);
  return plain || empty ? { registers, user } : undefined;
}

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
