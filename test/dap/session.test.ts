import assert from 'node:assert/strict';
import { test } from 'node:test';
import { capabilities } from '../../src/dap/capabilities.ts';
import { handlers } from '../../src/dap/table.ts';
import { addressOf, base, data, fakeGuest } from '../support/fakeKernel.ts';
import { atEntry, fakeSession, initialization, launchArguments } from '../support/fakeSession.ts';

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const main = '/home/someone/linux/init/main.c';
const lib = '/home/someone/linux/lib/helper.c';

test('every capability has its request, and every request of the contract is there', () => {
  const requests: Record<string, string> = {
    supportsFunctionBreakpoints: 'setFunctionBreakpoints',
    supportsInstructionBreakpoints: 'setInstructionBreakpoints',
    supportsDataBreakpoints: 'setDataBreakpoints',
    supportsSetVariable: 'setVariable',
    supportsSetExpression: 'setExpression',
  };
  for (const name of Object.keys(capabilities)) {
    const [, word] = /^supports(.+)Request$/.exec(name) ?? [];
    const request = requests[name] ?? (word && word[0]?.toLowerCase() + word.slice(1));
    if (request) assert.ok(handlers[request], `${name} without ${request}`);
  }
});

test('stops at entry, at a source line set before the first instruction, and shows the stack', async () => {
  const { client, target } = fakeSession();
  await client.request('initialize', initialization);
  await client.request('launch', launchArguments);
  await client.waitFor('initialized');
  const set = await client.request('setBreakpoints', { source: { path: main }, breakpoints: [{ line: 11 }] });
  assert.equal(set.breakpoints[0].verified, true);
  assert.deepEqual(target.calls, [`insert hardware ${hex(addressOf('start_kernel', 2))}`]);
  await client.request('configurationDone');
  const entry = await client.waitFor('stopped');
  assert.equal(entry.body.reason, 'entry');
  assert.equal(entry.body.threadId, 1);
  await client.request('continue', { threadId: 1 });
  const hit = await client.waitFor('stopped');
  assert.equal(hit.body.reason, 'breakpoint');
  assert.deepEqual(hit.body.hitBreakpointIds, [set.breakpoints[0].id]);
  // The kernel is mapped by now: the hardware breakpoint is given back.
  assert.deepEqual(target.calls.slice(1), [
    `insert software ${hex(addressOf('start_kernel', 2))}`,
    `remove hardware ${hex(addressOf('start_kernel', 2))}`,
  ]);
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  assert.equal(stackFrames[0].name, 'start_kernel');
  assert.equal(stackFrames[0].source.path, main);
  assert.equal(stackFrames[0].line, 11);
  assert.equal(stackFrames[0].instructionPointerReference, hex(addressOf('start_kernel', 2)));
  const { threads } = await client.request('threads');
  assert.deepEqual(threads, [{ id: 1, name: 'vCPU 0 (EL1, breakpoint)' }]);
});

test('a frame whose source is not there shows its code, for a client that wants that', async () => {
  for (const missingSources of ['disassembly', 'path', undefined]) {
    const { client } = await atEntry({}, { missingSources });
    await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'helper' }] });
    await client.request('continue', { threadId: 1 });
    await client.waitFor('stopped');
    const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
    const { source, line } = stackFrames[0];
    const memoryReference = stackFrames[0].instructionPointerReference;
    const { instructions } = await client.request('disassemble', { memoryReference, instructionCount: 1 });
    if (missingSources !== 'disassembly') {
      assert.deepEqual([source.path, line], ['/build/linux/lib/helper.c', 21]);
      assert.deepEqual([instructions[0].location.path, instructions[0].line], [source.path, line]);
      continue;
    }
    assert.deepEqual([instructions[0].location, instructions[0].line], [undefined, undefined]);
    assert.equal(source.path, undefined);
    assert.equal(source.origin, '/build/linux/lib/helper.c:21, which is not here');
    const { content } = await client.request('source', { source, sourceReference: source.sourceReference });
    assert.match(content.split('\n')[line - 1], /<helper\+0x8>:\s+add/);
    assert.equal(source.name, 'helper (disassembly)');
    // Of a caller it is the call, which may be the last instruction of its function.
    const caller = stackFrames[1].source;
    const calling = await client.request('source', { source: caller, sourceReference: caller.sourceReference });
    assert.match(calling.content.split('\n')[stackFrames[1].line - 1], /<start_kernel\+0x[0-9a-f]+>:\s+bl .*helper/);
  }
});

test('next, stepIn and stepOut by line', async () => {
  const { client } = await atEntry();
  await client.request('setFunctionBreakpoints', { breakpoints: [{ name: 'start_kernel' }] });
  await client.request('continue', { threadId: 1 });
  assert.equal((await client.waitFor('stopped')).body.reason, 'function breakpoint');
  const top = async () => {
    const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
    return `${stackFrames[0].name}:${stackFrames[0].line}/${stackFrames.length}`;
  };
  const step = async (command: string) => {
    await client.request(command, { threadId: 1 });
    assert.equal((await client.waitFor('stopped')).body.reason, 'step');
    return top();
  };
  assert.equal(await step('next'), 'start_kernel:12/1');
  // Behind the prologue of the callee.
  assert.equal(await step('stepIn'), 'helper:21/2');
  assert.equal(await step('next'), 'helper:22/2');
  assert.equal(await step('next'), 'helper:23/2');
  assert.equal(await step('next'), 'start_kernel:12/1');
  // Over a call into assembly without lines, also with stepIn.
  assert.equal(await step('next'), 'start_kernel:13/1');
  assert.equal(await step('stepIn'), 'start_kernel:14/1');
});

test('stepOut returns to the caller, and a step by instruction is one instruction', async () => {
  const { client } = await atEntry();
  await client.request('setBreakpoints', { source: { path: lib }, breakpoints: [{ line: 31 }] });
  await client.request('continue', { threadId: 1 });
  await client.waitFor('stopped');
  const before = await client.request('stackTrace', { threadId: 1 });
  assert.deepEqual(
    before.stackFrames.map(({ name }: { name: string }) => name),
    ['inner', 'helper', 'start_kernel'],
  );
  await client.request('stepOut', { threadId: 1 });
  await client.waitFor('stopped');
  const after = await client.request('stackTrace', { threadId: 1 });
  assert.equal(after.stackFrames[0].name, 'helper');
  assert.equal(after.stackFrames[0].instructionPointerReference, hex(addressOf('helper', 4)));
  await client.request('next', { threadId: 1, granularity: 'instruction' });
  await client.waitFor('stopped');
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  assert.equal(stackFrames[0].instructionPointerReference, hex(addressOf('helper', 5)));
});

test('scopes, registers, fields, and writing them', async () => {
  const { client, target } = await atEntry();
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  const { scopes } = await client.request('scopes', { frameId: stackFrames[0].id });
  assert.deepEqual(
    scopes.map(({ name, presentationHint }: Record<string, string>) => [name, presentationHint]),
    [
      ['General', 'registers'],
      ['Floating point', undefined],
      ['System', undefined],
    ],
  );
  const reference = scopes[0].variablesReference;
  const { variables } = await client.request('variables', { variablesReference: reference });
  const byName = new Map<string, { value: string; variablesReference: number }>(
    variables.map((variable: { name: string }) => [variable.name, variable]),
  );
  assert.equal(byName.get('pc')?.value, hex(base));
  assert.equal(byName.get('pstate')?.value, '0x3c5');
  for (const name of [...Array.from({ length: 31 }, (_, n) => `x${n}`), 'sp'])
    assert.match(byName.get(name)?.value ?? '', /^0x/);
  const fields = await client.request('variables', { variablesReference: byName.get('pstate')?.variablesReference });
  assert.ok(fields.variables.length > 3);
  const written = await client.request('setVariable', { variablesReference: reference, name: 'x5', value: '0x10 + 2' });
  assert.equal(written.value, '0x12');
  assert.equal(target.get(0, 'x5'), 0x12n);
  assert.match(
    await client.refused('setVariable', { variablesReference: reference, name: 'pc', value: '1 << 3 == 8 ? v0 : 0' }),
    /no symbol `v0`/,
  );
  const system = await client.request('variables', { variablesReference: scopes[2].variablesReference });
  assert.deepEqual(
    system.variables.map(({ name }: { name: string }) => name),
    ['Changed since the last stop', 'exception', 'translation'],
  );
  const topic = await client.request('variables', { variablesReference: system.variables[1].variablesReference });
  assert.equal(topic.variables[0].name, 'esr_el1');
});

test('evaluate, setExpression', async () => {
  const { client, target } = await atEntry();
  const evaluate = async (expression: string) => (await client.request('evaluate', { expression })).result;
  assert.equal(await evaluate('$pc'), `${hex(base)} <_start>`);
  assert.equal(await evaluate('start_kernel'), `${hex(addressOf('start_kernel'))} <start_kernel>`);
  assert.equal(await evaluate('&start_kernel + 4'), `${hex(addressOf('start_kernel', 1))} <start_kernel+0x4>`);
  assert.equal(await evaluate('2 * (3 + 4)'), '14');
  assert.equal(await evaluate('$x0 = 5'), '0x5');
  assert.equal(target.get(0, 'x0'), 5n);
  target.load(data, Uint8Array.of(0x78, 0x56, 0x34, 0x12, 0xff, 0xff, 0xff, 0xff));
  assert.equal(await evaluate('*(u32 *)jiffies'), '305419896');
  assert.equal(await evaluate('*(s32 *)(jiffies + 4)'), '-1');
  assert.equal(await evaluate('((u8 *)jiffies)[1]'), '86');
  const set = await client.request('setExpression', { expression: '*(u16 *)&jiffies', value: '0xbeef' });
  assert.equal(set.value, '48879');
  assert.equal(await evaluate('*(u16 *)&jiffies,x'), '0xbeef');
  assert.match(await client.refused('evaluate', { expression: '1 << 40' }), /40 bits.*cast/);
  assert.match(await client.refused('evaluate', { expression: '*(u8 *)jiffies = 256' }), /too wide for a u8/);
  assert.match(await client.refused('evaluate', { expression: 'nonsense' }), /no symbol `nonsense`/);
  assert.match(await client.refused('evaluate', { expression: '1 +' }), /column 4/);
  assert.match(await client.refused('evaluate', { expression: '*(u64 *)0x10' }), /virtual memory at 0x10/);
  assert.match(await client.refused('evaluate', { expression: '$x0 = 1', context: 'hover' }), /console/);
});

test('memory and disassembly', async () => {
  const { client, target } = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const read = await client.request('readMemory', { memoryReference: hex(base), count: 4 });
  assert.equal(Buffer.from(read.data, 'base64').readUInt32LE(), 0xd503201f);
  const none = await client.request('readMemory', { memoryReference: '0x10', count: 16 });
  assert.deepEqual(none, { address: '0x10', unreadableBytes: 16 });
  const part = await client.request('readMemory', { memoryReference: hex(data + 4090n), count: 16 });
  assert.equal(Buffer.from(part.data, 'base64').length, 6);
  assert.equal(part.unreadableBytes, 10);
  await client.request('writeMemory', { memoryReference: hex(data), data: Buffer.from([1, 2, 3]).toString('base64') });
  assert.deepEqual([...(await target.memory(0).read(data as never, 4))], [1, 2, 3, 0]);
  assert.match(await client.refused('readMemory', { memoryReference: 'main', count: 4 }), /memoryReference `main`/);
  const { instructions } = await client.request('disassemble', {
    memoryReference: hex(addressOf('start_kernel')),
    instructionOffset: -2,
    instructionCount: 8,
  });
  assert.equal(instructions.length, 8);
  assert.equal(instructions[2].address, hex(addressOf('start_kernel')));
  assert.equal(instructions[2].line, 10);
  assert.match(instructions[6].instruction, /^bl 0x[0-9a-f]+ <helper>$/);
  const nowhere = await client.request('disassemble', {
    memoryReference: '0x0',
    instructionOffset: -50,
    instructionCount: 100,
  });
  assert.equal(nowhere.instructions.length, 100);
  assert.equal(nowhere.instructions[50].presentationHint, 'invalid');
});

test('code without source is shown as a listing', async () => {
  const { client } = await atEntry({ target: fakeGuest(1, { mapped: true }) });
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  const { source, line } = stackFrames[0];
  const { content } = await client.request('source', { source, sourceReference: source.sourceReference });
  assert.match(content.split('\n')[line - 1], /<_start>: +nop$/);
});

test('clients that count lines from 0', async () => {
  const { client } = fakeSession();
  await client.request('initialize', { adapterID: 'kvm', linesStartAt1: false, columnsStartAt1: false });
  await client.request('launch', launchArguments);
  await client.waitFor('initialized');
  const { breakpoints } = await client.request('setBreakpoints', {
    source: { path: main },
    breakpoints: [{ line: 10 }],
  });
  assert.deepEqual([breakpoints[0].verified, breakpoints[0].line], [true, 10]);
  await client.request('configurationDone');
  await client.waitFor('stopped');
  await client.request('continue', { threadId: 1 });
  await client.waitFor('stopped');
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  assert.equal(stackFrames[0].line, 10);
});

test('without symbols registers, memory, code and instruction steps are there, and source breakpoints say why not', async () => {
  const { symbols: _, ...withoutSymbols } = launchArguments;
  const { client } = fakeSession();
  await client.request('initialize', initialization);
  await client.request('launch', withoutSymbols);
  await client.waitFor('initialized');
  const { breakpoints } = await client.request('setBreakpoints', {
    source: { path: 'init/main.c' },
    breakpoints: [{ line: 12 }],
  });
  assert.equal(breakpoints[0].verified, false);
  assert.match(breakpoints[0].message, /symbols/);
  await client.request('configurationDone');
  await client.waitFor('stopped');
  const { stackFrames } = await client.request('stackTrace', { threadId: 1 });
  const reference = stackFrames[0].instructionPointerReference;
  assert.match(reference, /^0x/);
  const { instructions } = await client.request('disassemble', { memoryReference: reference, instructionCount: 2 });
  assert.equal(instructions.length, 2);
  await client.request('stepIn', { threadId: 1 });
  assert.equal((await client.waitFor('stopped')).body.reason, 'step');
});

test('completion in the debug console', async () => {
  const { client } = await atEntry();
  const complete = async (text: string, column: number) =>
    (await client.request('completions', { text, column })).targets;
  assert.deepEqual(await complete('1 + start_kernel', 9), [
    { label: 'start_kernel', type: 'function', start: 4, length: 4 },
  ]);
  const registers = await complete('$x3', 4);
  assert.deepEqual(
    registers.map(({ label }: { label: string }) => label),
    ['$x3', '$x30'],
  );
  assert.deepEqual(await complete('$', 1), [], 'before the $');
  await client.request('continue', { threadId: 1 });
  assert.deepEqual(await complete('$x3', 4), [], 'while the guest runs');
});
