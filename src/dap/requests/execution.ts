import type { StepKind } from '../../debugger/stepping.ts';
import { debuggerOf, type Handler, stopped, threadId, vcpuOf } from '../context.ts';
import { chosenPlace } from './jumps.ts';

// Named apart from the statement; the table gives it its name.
export const resume: Handler = (args, context) => {
  const instance = debuggerOf(context);
  instance.stopped();
  if (args.has('threadId')) vcpuOf(args, context);
  context.afterResponse(() => instance.continue());
  return { allThreadsContinued: true };
};

export const pause: Handler = (_args, context) => {
  debuggerOf(context).pause();
  return undefined;
};

const step =
  (kind: StepKind): Handler =>
  async (args, context) => {
    const current = stopped(context);
    const vcpu = args.has('threadId') ? vcpuOf(args, context) : current.focus;
    const granularity = args.choice('granularity', ['statement', 'line', 'instruction']) ?? 'statement';
    const start = await debuggerOf(context).prepareStep(
      kind,
      granularity === 'instruction' ? 'instruction' : 'line',
      vcpu,
      kind === 'in' ? chosenPlace(args, context) : undefined,
    );
    context.afterResponse(start);
    return undefined;
  };

export const next = step('next');
export const stepIn = step('in');
export const stepOut = step('out');

export const threads: Handler = async (_args, context) => {
  const instance = debuggerOf(context);
  const { target } = instance;
  const list = [];
  for (const vcpu of target.vcpus) {
    const facts: string[] = [];
    if (instance.state === 'stopped') {
      const current = instance.stopped();
      facts.push(target.architecture.describeContext(await current.registers(vcpu)));
      const cause = instance.causeOf(vcpu);
      if (cause && cause.reason !== 'step') facts.push(cause.reason);
    }
    list.push({ id: threadId(vcpu), name: `vCPU ${vcpu}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}` });
  }
  return { threads: list };
};
