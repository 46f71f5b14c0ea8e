// The log of an imaginary kernel, read from its memory: whole, wrapped, torn and destroyed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryFault, TargetError, UserError } from '../../src/base/errors.ts';
import { KernelLog, type LogRecord, logText } from '../../src/linux/kernelLog.ts';
import { logSymbols, PrintkRing, states } from '../support/printkRing.ts';

const log = KernelLog.of(logSymbols) ?? assert.fail('there is no log');
const recordsOf = async (ring: PrintkRing, bias = 0n): Promise<readonly LogRecord[]> =>
  (await log.read(bias, ring.reader(bias))).records;
const textsOf = async (ring: PrintkRing): Promise<readonly string[]> => (await recordsOf(ring)).map(({ text }) => text);

test('a record has all that printk stored with it', async () => {
  const ring = new PrintkRing();
  ring.store({ text: 'Booting Linux', caller: 0 });
  ring.store({
    text: 'usb 1-1: new device',
    time: 12_345_678_901n,
    level: 3,
    facility: 1,
    caller: 0x8000_0002,
    subsystem: 'usb',
    device: '+usb:1-1',
  });
  assert.deepEqual(await recordsOf(ring), [
    {
      seq: 0n,
      time: 0n,
      level: 6,
      facility: 0,
      caller: 'T0',
      text: 'Booting Linux',
      subsystem: undefined,
      device: undefined,
    },
    {
      seq: 1n,
      time: 12_345_678_901n,
      level: 3,
      facility: 1,
      caller: 'C2',
      text: 'usb 1-1: new device',
      subsystem: 'usb',
      device: '+usb:1-1',
    },
  ]);
});

test('in the text of dmesg, further lines indented', async () => {
  const ring = new PrintkRing(4, 12);
  ring.store({ text: 'Linux version 6.1.0', time: 0n });
  ring.store({ text: 'Memory:\n  1024K\n\n  2048K', time: 1_000_001_999n });
  ring.store({ text: '', time: 123_456_999_999_999n });
  assert.equal(
    logText(await recordsOf(ring)),
    [
      '[    0.000000] Linux version 6.1.0',
      '[    1.000001] Memory:',
      '                 1024K',
      '',
      '                 2048K',
      '[123456.999999] ',
      '',
    ].join('\n'),
  );
});

test('it is where the kernel is, and is found by symbols', async () => {
  const ring = new PrintkRing();
  ring.store({ text: 'moved' });
  assert.deepEqual(
    (await recordsOf(ring, 0x1234_0000n)).map(({ text }) => text),
    ['moved'],
  );
  const { symbolsNamed, typeNamed } = logSymbols;
  assert.equal(KernelLog.of({ typeNamed, symbolsNamed: () => [] }), undefined);
  for (const missing of [
    'printk_ringbuffer',
    'prb_desc_ring',
    'prb_desc',
    'prb_data_blk_lpos',
    'prb_data_ring',
    'printk_info',
  ]) {
    const source = {
      symbolsNamed,
      typeNamed: (tag: never, name: string) => (name === missing ? undefined : typeNamed(tag, name)),
    };
    assert.equal(KernelLog.of(source), undefined, missing);
  }
  // Since v5.10 itself; a kernel without it still has its log.
  const without = KernelLog.of({
    symbolsNamed,
    typeNamed: (tag, name) => (name === 'dev_printk_info' ? undefined : typeNamed(tag, name)),
  });
  ring.store({ text: 'of a device', device: '+pci:0' });
  assert.equal((await without?.read(0n, ring.reader()))?.records[1]?.device, undefined);
});

test('an empty log, and the first records, whose numbers overflow', async () => {
  const ring = new PrintkRing();
  assert.deepEqual(await textsOf(ring), []);
  const expected: string[] = [];
  // IDs pass 2^62 with the 17th record, positions pass 2^64 with the 22nd.
  for (let n = 0; n < 40; n++) {
    ring.store({ text: `line ${n}` });
    expected.push(`line ${n}`);
    assert.deepEqual(await textsOf(ring), expected.slice(-16), `${n}`);
  }
});

test('rings that wrap, in kernels before and since v6.18', async () => {
  for (const fillsRing of [false, true]) {
    const ring = new PrintkRing(4, 7, fillsRing);
    let filled = 0;
    for (let n = 0; n < 100; n++) {
      const text = `${n}`.padEnd(3 + ((n * 11) % 53), '.');
      const seq = ring.store({ text });
      if (ring.descriptorOf(seq).getBigUint64(8, true) % 128n === 0n) filled++;
      const texts = await textsOf(ring);
      assert.equal(texts.at(-1), text, `${fillsRing} ${n}`);
      // What was written over is left out, and nothing else is taken for it.
      for (const each of texts) assert.match(each, /^\d+\.*$/);
      assert.ok(texts.length < 10);
    }
    assert.equal(filled > 0, fillsRing, 'blocks that end with the ring');
  }
});

test('records that are not whole are left out', async () => {
  const damages: Record<string, (ring: PrintkRing) => void> = {
    'a writer is at it': (ring) => ring.store({ text: 'torn', state: states.reserved }),
    'it was given up': (ring) => ring.store({ text: 'torn', state: states.reusable }),
    'its descriptor is of another ID': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(24, desc.getBigUint64(24, true) + 16n, true);
    },
    'its number is of another place': (ring) => ring.infoOf(ring.store({ text: 'torn' })).setBigUint64(8, 7n, true),
    'its text was lost': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(16, 1n, true);
      desc.setBigUint64(8, 1n, true);
    },
    'its block is of another record': (ring) => ring.blockOf(ring.store({ text: 'torn' })).setBigUint64(0, 1n, true),
    'its text is longer than its block': (ring) => ring.infoOf(ring.store({ text: 'torn' })).setUint16(20, 9, true),
    'its block begins at an odd place': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(16, desc.getBigUint64(16, true) + 4n, true);
    },
    'its block is empty': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(8, desc.getBigUint64(16, true), true);
    },
    'its block ends a little before it begins': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(8, desc.getBigUint64(16, true) - 8n, true);
    },
    'its block is longer than the ring': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(8, desc.getBigUint64(16, true) + 4096n, true);
    },
    'its block ends before it begins': (ring) => {
      const desc = ring.descriptorOf(ring.store({ text: 'torn' }));
      desc.setBigUint64(8, desc.getBigUint64(16, true) - 1024n, true);
    },
  };
  for (const [name, damage] of Object.entries(damages)) {
    // At the beginning of the ring too, where a block that wraps would be.
    for (const before of [[], ['before']]) {
      const ring = new PrintkRing();
      for (const text of before) ring.store({ text });
      damage(ring);
      ring.store({ text: 'after' });
      assert.deepEqual(await textsOf(ring), [...before, 'after'], name);
    }
  }
  const continued = new PrintkRing();
  continued.store({ text: 'not ended yet', state: states.committed });
  assert.deepEqual(await textsOf(continued), ['not ended yet'], 'a line that may be continued is there');
});

test('what the guest says is not believed beyond what can be', async () => {
  const ring = new PrintkRing();
  for (let n = 0; n < 3; n++) ring.store({ text: `line ${n}` });
  const rings = ring.rings();
  const head = rings.getBigUint64(56, true);
  rings.setBigUint64(48, (head - 1_000_000n) & ((1n << 62n) - 1n), true);
  assert.deepEqual(await textsOf(ring), ['line 0', 'line 1', 'line 2'], 'no more than there is room for');
  rings.setBigUint64(48, (head + 1n) & ((1n << 62n) - 1n), true);
  assert.deepEqual(await textsOf(ring), ['line 0', 'line 1', 'line 2'], 'a tail beyond the head');
  rings.setUint32(48 + 36, 60, true);
  await assert.rejects(
    recordsOf(ring),
    (thrown) => thrown instanceof TargetError && /2\^60 records/.test(thrown.message),
  );
  rings.setUint32(48 + 36, 26, true);
  await assert.rejects(recordsOf(ring), MemoryFault, 'and not read where there is nothing');
  rings.setUint32(48 + 36, 4, true);
  rings.setUint32(20, 63, true);
  await assert.rejects(recordsOf(ring), TargetError);
});

test('no more than the newest records and a limit of text', async () => {
  const many = new PrintkRing(17, 21);
  for (let n = 0; n < 70_000; n++) many.store({ text: '' });
  const { records, omitted } = await log.read(0n, many.reader());
  assert.deepEqual([records.length, records[0]?.seq, records.at(-1)?.seq], [65536, 4464n, 69999n]);
  assert.equal(omitted, 70_000 - 65_536 + 1, 'the descriptor of the beginning counts too');
  // A text as long as 16 bits can say: no kernel stores one.
  const long = new PrintkRing(4, 18);
  long.store({ text: 'x'.repeat(60_000) });
  assert.equal((await recordsOf(long))[0]?.text.length, 4096);
  const much = new PrintkRing(13, 25);
  for (let n = 0; n < 5000; n++) much.store({ text: 'y'.repeat(4096) });
  const most = await log.read(0n, much.reader());
  assert.deepEqual([most.records.length, most.records.at(-1)?.seq], [4096, 4999n]);
  assert.equal(most.omitted, 5000 - 4096 + 1);
});

test('texts do no harm where they are shown', async () => {
  const ring = new PrintkRing(4, 12);
  ring.store({ text: 'a\x1b[31mred\r\0end\ttab', device: 'x\x07y' });
  ring.store({ text: Uint8Array.of(0x63, 0xc3, 0xa9, 0xff, 0x64) });
  const [first, second] = await recordsOf(ring);
  assert.equal(first?.text, 'a\\x1b[31mred\\x0d\\x00end\ttab');
  assert.equal(first?.device, 'x\\x07y');
  assert.equal(second?.text, 'cé\ufffdd');
});

test('a kernel that has no log yet', async () => {
  const ring = new PrintkRing();
  ring.at([...ring.memory.keys()][0] ?? 0n).setBigUint64(0, 0n, true);
  await assert.rejects(recordsOf(ring), (thrown) => thrown instanceof UserError && /no log yet/.test(thrown.message));
});
