// The walk through the guest's translation tables that the MMU makes for an address.
import type { WalkAttribute, WalkLevel, WalkRegime, WalkTarget } from '../../arch/pageWalk.ts';
import { Gva, hex } from '../../base/address.ts';
import { UserError } from '../../base/errors.ts';
import { evaluateExpression } from '../../debugger/evaluate.ts';
import { parseExpression } from '../../debugger/expression/parser.ts';
import { assigns } from '../../debugger/expression/syntax.ts';
import { walkOf } from '../../debugger/pageWalk.ts';
import { FrameScope } from '../../debugger/scope.ts';
import { declaration } from '../../symbols/types.ts';
import { addressOf, integerOf, isScalar } from '../../symbols/value.ts';
import { frameOf, type Handler, threadId } from '../context.ts';

export const pageWalk: Handler = async (args, context) => {
  const frame = await frameOf(args, context);
  const address = await meant(args.string('address'), await FrameScope.of(frame.context, frame));
  const { isMmuOn, regime, levels, target, fault, debuggerAddress, lines } = await walkOf(
    frame.context,
    frame.vcpu,
    address,
  );
  return {
    address: hex(address),
    threadId: threadId(frame.vcpu),
    mmu: isMmuOn,
    ...(regime && { regime: regimeBody(regime) }),
    levels: levels.map(levelBody),
    ...(target && { target: targetBody(target) }),
    ...(fault && { fault }),
    ...(debuggerAddress === undefined ? {} : { debuggerAddress: hex(debuggerAddress) }),
    lines,
  };
};

/** A number is the address; of what is none, a struct or an array, it is where that is. */
async function meant(text: string, scope: FrameScope): Promise<Gva> {
  const expression = parseExpression(text, (name) => scope.isType(name));
  // Looking must not change anything.
  if (assigns(expression)) throw new UserError('Assignments are carried out in the debug console only.');
  const { value } = await evaluateExpression(expression, scope);
  const address = isScalar(value.type) ? await integerOf(value, scope.access) : addressOf(value);
  if (address === undefined) throw new UserError(`A ${declaration(value.type)} that is not in memory has no address.`);
  return Gva(address);
}

const regimeBody = ({ value, ...rest }: WalkRegime): object => ({ ...rest, value: hex(value) });

const levelBody = ({ level, table, index, address, descriptor, kind, output, attributes }: WalkLevel): object => ({
  level,
  table: hex(table),
  index,
  address: hex(address),
  descriptor: hex(descriptor),
  kind,
  ...(output === undefined ? {} : { output: hex(output) }),
  attributes: attributes.map(attributeBody),
});

const attributeBody = ({ name, value, meaning }: WalkAttribute): object => ({
  name,
  value: hex(value),
  ...(meaning === undefined ? {} : { meaning }),
});

const targetBody = ({ address, ...rest }: WalkTarget): object => ({ address: hex(address), ...rest });
