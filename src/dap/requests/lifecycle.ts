import { UserError } from '../../base/errors.ts';
import { parseAttach, parseLaunch } from '../arguments.ts';
import { capabilities } from '../capabilities.ts';
import { debuggerOf, type Handler, type RequestContext } from '../context.ts';
import { Guest } from '../guest.ts';
import { ProgressReport, whileShown } from '../progress.ts';

export const initialize: Handler = (args, { client }) => {
  client.features.linesStartAt1 = args.boolean('linesStartAt1', true);
  client.features.columnsStartAt1 = args.boolean('columnsStartAt1', true);
  client.features.runInTerminal = args.boolean('supportsRunInTerminalRequest');
  client.features.invalidatedEvent = args.boolean('supportsInvalidatedEvent');
  client.features.progressReporting = args.boolean('supportsProgressReporting');
  if (args.optionalString('pathFormat') === 'uri') throw new UserError('initialize: "pathFormat" must be "path".');
  return capabilities;
};

export const launch: Handler = async (args, context) => {
  requireNoGuest(context);
  const configuration = parseLaunch(args.all());
  return whileShown(context, 'Starting the VM', async () =>
    begin(await Guest.launch(configuration, context.client, context.services, context.signal), context),
  );
};

export const attach: Handler = async (args, context) => {
  requireNoGuest(context);
  const configuration = parseAttach(args.all());
  return whileShown(context, 'Attaching to the VM', async () =>
    begin(await Guest.attach(configuration, context.client, context.services, context.signal), context),
  );
};

function requireNoGuest({ guest }: RequestContext): void {
  if (guest) throw new UserError('This session has a guest already; disconnect first.');
}

async function begin(guest: Guest, context: RequestContext): Promise<undefined> {
  try {
    // Cancelled meanwhile: nobody will ever ask for this guest.
    if (context.signal.aborted) throw new UserError('cancelled');
    await guest.debugger.locateKernel();
    if (context.signal.aborted) throw new UserError('cancelled');
  } catch (error) {
    await guest.leave();
    throw error;
  }
  context.guest = guest;
  const { client } = context;
  context.afterResponse(() => {
    const { facts, hardwareBreakpoints, hardwareWatchpoints } = guest.debugger.target.capabilities;
    const all = [...facts, ['hardware breakpoints', hardwareBreakpoints], ['watchpoints', hardwareWatchpoints]];
    const output = all.map(([name, value]) => `${name}: ${value}`).join(', ');
    client.event('output', { category: 'console', output: `${output}\n` });
    const source = guest.debugger.symbols?.source;
    if (source === undefined) {
      const output = 'Without symbols there are no names, lines or variables; name the vmlinux in "symbols".\n';
      client.event('output', { category: 'console', output });
    } else if (source.debugInformationNotice !== undefined) {
      client.event('output', { category: 'important', output: `${source.debugInformationNotice}\n` });
    }
    for (const field of guest.configuration.ignored) {
      const output = `"${field}" in the configuration is ignored: it is misspelt, or has no effect beside the others.\n`;
      client.event('output', { category: 'important', output });
    }
    if (guest.configuration.modules.length > 0) {
      const output = 'The symbols of "modules" are not used by this version; code of modules is shown as addresses.\n';
      client.event('output', { category: 'important', output });
    }
    client.event('initialized');
  });
  return undefined;
}

export const configurationDone: Handler = (_args, context) => {
  debuggerOf(context).stopped();
  context.afterResponse(() => context.guest?.start());
  return undefined;
};

export const disconnect: Handler = async (args, context) => {
  await context.endSession(args.optionalBoolean('terminateDebuggee'));
  return undefined;
};

export const terminate: Handler = async (_args, context) => {
  // Without a guest one may be about to come: that is ended as well.
  if (context.guest) await context.guest.leave(true);
  else await context.endSession(true);
  context.afterResponse(() => context.client.event('terminated'));
  return undefined;
};

export const cancel: Handler = (args, context) => {
  const id = args.optionalInteger('requestId');
  if (id !== undefined) context.cancel(id);
  const progress = args.optionalString('progressId');
  if (progress !== undefined) ProgressReport.cancel(context.client, progress);
  return undefined;
};
