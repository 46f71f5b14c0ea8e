// `print NAME`: the value a variable has in the image, before the program runs.

import { MemoryFault, UserError } from '../base/errors.ts';
import { formatValue, unreadable } from '../symbols/format.ts';
import type { SymbolFile } from '../symbols/image.ts';
import { declaration, stripped } from '../symbols/types.ts';
import { elementOf, locatedValue, memberOf, memoryValue, type Value, type ValueAccess } from '../symbols/value.ts';
import { type Subcommand, symbolic } from './subcommand.ts';

/** As gdb's `print elements`. */
const elementLimit = 200;
/** As deep as compilers let types nest; rings go through pointers, which are not followed. */
const depthLimit = 64;

const accessTo = (image: SymbolFile): ValueAccess => ({
  read: async (address, length) => {
    const bytes = image.initialBytes(address, length);
    if (bytes === undefined) throw new MemoryFault('virtual', address, `${image.path} does not hold it`);
    return bytes;
  },
  register: () => undefined,
});

async function variableValue(image: SymbolFile, name: string): Promise<Value> {
  const variable = image.variableNamed(name);
  if (variable === undefined) {
    throw new UserError(`There is no variable \`${name}\` with static storage in ${image.path}.`);
  }
  const access = accessTo(image);
  const frame = {
    pc: 0n,
    bias: 0n,
    register: access.register,
    cfa: async () => undefined,
    caller: async () => undefined,
  };
  const location = await image.locate(variable, { ...frame, read: (address, length) => access.read(address, length) });
  const [symbol] = location.kind === 'none' ? image.symbolsNamed(name) : [];
  return symbol === undefined ? locatedValue(variable.type, location) : memoryValue(variable.type, symbol.address);
}

export const printSubcommand: Subcommand = {
  operands: 'NAME',
  summary: 'the initial value of a variable',
  async run(image, [name = '']) {
    const value = await variableValue(image, name);
    const access = accessTo(image);
    const text = (each: Value): Promise<string> =>
      formatValue(each, access, {
        depth: depthLimit,
        limit: elementLimit,
        describe: (address) => /<(.*)>/.exec(symbolic(image, address))?.[1],
      }).catch(unreadable);
    const tree = async (label: string | null, each: Value, depth: number): Promise<object> => {
      const real = stripped(each.type);
      const common = { name: label, type: declaration(each.type) };
      if ('members' in real && depth < depthLimit) {
        const parts = real.members.map((member) => tree(member.name ?? null, memberOf(each, member), depth + 1));
        return { ...common, members: await Promise.all(parts) };
      }
      const isText = real.kind === 'array' && (await text(each)).startsWith('"');
      if (real.kind === 'array' && real.count !== undefined && !isText && depth < depthLimit) {
        const shown = Array.from({ length: Math.min(real.count, elementLimit) }, (_, index) =>
          tree(`[${index}]`, elementOf(each, index), depth + 1),
        );
        return { ...common, count: real.count, elements: await Promise.all(shown) };
      }
      return { ...common, value: await text(each) };
    };
    const [whole, parts] = [await text(value), await tree(name, value, 0)];
    return { json: () => parts, text: () => [`${name} = ${whole}`] };
  },
};
