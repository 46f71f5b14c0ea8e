import { UserError } from '../base/errors.ts';
import type { Vcpu } from '../target/target.ts';
import type { EvaluationScope } from './evaluate.ts';
import type { StopContext } from './stopContext.ts';

/** Expressions in one frame of a stopped vCPU: registers of the frame, memory as the vCPU sees it, kernel symbols. */
export function frameScope(context: StopContext, vcpu: Vcpu, frame: number): EvaluationScope {
  const { target } = context;
  const describe = (name: string) => {
    const found = target.registers.find((register) => register.name === resolveAlias(name, target.architecture));
    if (!found) throw new UserError(`The vCPU has no register \`${name}\`.`);
    return found;
  };
  const register: EvaluationScope['register'] = async (name) => {
    const description = describe(name);
    const { registers } = await context.frame(vcpu, frame);
    let value = registers.get(description.name);
    if (value === undefined) {
      if (frame > 0 && description.group === 'general') {
        throw new UserError(`\`${name}\` was not saved by the frames below frame ${frame}, so its value is not known.`);
      }
      value = (await context.readRegisters(vcpu, [description.name])).get(description.name);
    }
    if (value === undefined) throw new UserError(`\`${name}\` cannot be read.`);
    return { value, bits: description.bits };
  };
  return {
    memory: context.memory(vcpu),
    register,
    writeRegister: async (name, value) => {
      const description = describe(name);
      if (frame > 0 && description.group === 'general') {
        throw new UserError(`Registers can be changed in the innermost frame only; frame ${frame} is a caller.`);
      }
      if (value >= 1n << BigInt(description.bits)) {
        throw new UserError(`The value is too wide for ${description.name}, which has ${description.bits} bits.`);
      }
      await context.writeRegister(vcpu, description.name, value);
    },
    symbolAddress: (name) => {
      const found = context.symbols?.named(name) ?? [];
      return (found.find((symbol) => symbol.global) ?? found[0])?.address;
    },
  };
}

/** `$fp` and `$lr` as gdb has them, from what the architecture calls its frame pointer and link register. */
function resolveAlias(
  name: string,
  { unwind, stackPointer, programCounter }: StopContext['target']['architecture'],
): string {
  const aliases: Readonly<Record<string, string | undefined>> = {
    fp: unwind.framePointer,
    lr: unwind.linkRegister,
    sp: stackPointer,
    pc: programCounter,
  };
  return aliases[name] ?? name;
}
