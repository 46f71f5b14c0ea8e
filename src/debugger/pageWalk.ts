import type { PageWalk } from '../arch/pageWalk.ts';
import { type Gpa, type Gva, hex } from '../base/address.ts';
import { TargetError } from '../base/errors.ts';
import type { Vcpu } from '../target/target.ts';
import type { StopContext } from './stopContext.ts';

export interface VcpuWalk extends PageWalk {
  /** Where the debugger reads the address although the vCPU cannot. */
  readonly debuggerAddress: Gpa | undefined;
}

/** How the vCPU's MMU comes to a physical address. TargetError when the vCPU does not tell its registers. */
export async function walkOf(context: StopContext, vcpu: Vcpu, address: Gva): Promise<VcpuWalk> {
  const { target } = context;
  const { pageWalk } = target.architecture;
  const offered = new Set(target.registers.map(({ name }) => name));
  const registers = await context.readRegisters(
    vcpu,
    pageWalk.registers.filter((name) => offered.has(name)),
  );
  const walk = await pageWalk.of(registers, (at, length) => target.physicalMemory.read(at, length), address);
  const debuggerAddress = walk.target === undefined ? await translated(context, vcpu, address) : undefined;
  context.check();
  if (debuggerAddress === undefined) return { ...walk, debuggerAddress };
  // CONFIG_UNMAP_KERNEL_AT_EL0: `Target.setKernelTables`.
  const note = `The debugger reads it at ${hex(debuggerAddress)}, through the kernel's own tables: the vCPU has those of user space`;
  return { ...walk, debuggerAddress, lines: [...walk.lines, note] };
}

async function translated(context: StopContext, vcpu: Vcpu, address: Gva): Promise<Gpa | undefined> {
  try {
    return (await context.target.translate(vcpu, address)).address;
  } catch (error) {
    if (error instanceof TargetError) return undefined;
    throw error;
  }
}
