import { Gva } from '../base/address.ts';
import type { FrameAccess } from '../symbols/image.ts';
import type { Vcpu } from '../target/target.ts';
import type { StopContext } from './stopContext.ts';

/** A physical frame as the location of a variable needs it. */
export async function frameAccess(context: StopContext, vcpu: Vcpu, index: number): Promise<FrameAccess> {
  const frame = await context.frame(vcpu, index);
  const { architecture } = context.target;
  const stack = context.stack(vcpu);
  const bias = context.symbols?.bias ?? 0n;
  const memory = context.memory(vcpu);
  return {
    pc: BigInt.asUintN(64, frame.lookup - bias),
    bias,
    register: (number) => {
      const name = architecture.dwarfRegister(number);
      return name === undefined ? undefined : frame.registers.get(name);
    },
    cfa: () => stack.canonicalFrameAddress(frame),
    read: (address, length) => memory.read(Gva(address), length),
    caller: async () => {
      const frames = await stack.frames(index + 2);
      return frames[index + 1] === undefined ? undefined : frameAccess(context, vcpu, index + 1);
    },
  };
}
