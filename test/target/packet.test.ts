/** The framing of the GDB remote protocol, against packets of the GDB manual and of QEMU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SessionError } from '../../src/base/errors.ts';
import { encodePacket, longestPacket, PacketReader, type Received, textOf } from '../../src/target/rsp/packet.ts';

const latin1 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));
const shown = (received: readonly Received[]): readonly string[] =>
  received.map((each) => (each.kind === 'packet' ? textOf(each.data) : each.kind));
const read = (text: string): readonly string[] => shown(new PacketReader().push(latin1(text)));

/** A packet whose data is already as it goes over the wire. */
function framed(data: string): string {
  const sum = [...data].reduce((total, character) => (total + character.charCodeAt(0)) & 0xff, 0);
  return `$${data}#${sum.toString(16).padStart(2, '0')}`;
}

test('packets as stubs send them', () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['+$OK#9a', ['acknowledged', 'OK']],
    ['$#00', ['']],
    ['$T05thread:p01.01;#06', ['T05thread:p01.01;']],
    ['$OK#9A', ['OK']],
    ['$OK#9b', ['damaged']],
    ['$OK#zz', ['damaged']],
    ['-', ['refused']],
    // What is left from before, a packet that lost its end, and a notification.
    ['junk\r\n$OK#9a', ['OK']],
    ['$T05thr$OK#9a', ['OK']],
    ['%Stop:T05#21$OK#9a', ['OK']],
    // "0* " is 0000 (GDB manual, E.1).
    [framed('0* '), ['0000']],
    [framed('x0*"1'), ['x0000001']],
    [framed('}\x03}\x04}]'), ['#$}']],
    [framed('}\n*!'), ['*****']],
    // No byte to repeat, nothing to escape, a count below what there can be.
    [framed('* '), ['damaged']],
    [framed('a}'), ['damaged']],
    [framed('a*'), ['damaged']],
    [framed('a*\x1d'), ['damaged']],
    ['$OK#9a$E01#a6+', ['OK', 'E01', 'acknowledged']],
  ];
  for (const [text, expected] of cases) assert.deepEqual(read(text), expected, JSON.stringify(text));
});

test('packets in pieces of every size', () => {
  const text = `+${framed('a}\x03b*&c')}-${framed('OK')}`;
  const whole = read(text);
  for (let size = 1; size < text.length; size++) {
    const reader = new PacketReader();
    const received: Received[] = [];
    for (let at = 0; at < text.length; at += size) received.push(...reader.push(latin1(text.slice(at, at + size))));
    assert.deepEqual(shown(received), whole);
  }
});

test('what is sent survives the way', () => {
  assert.equal(textOf(encodePacket(latin1('vCont;c'))), '$vCont;c#a8');
  assert.equal(textOf(encodePacket(latin1(''))), '$#00');
  const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const sent = encodePacket(every);
  for (const special of ['$', '#']) assert.equal(textOf(sent.subarray(1, -3)).includes(special), false, special);
  assert.deepEqual(new PacketReader().push(sent), [{ kind: 'packet', data: every }]);
});

test('what is too long to be a packet ends the conversation', () => {
  const reader = new PacketReader();
  reader.push(latin1('$'));
  assert.throws(() => reader.push(new Uint8Array(longestPacket + 1).fill(0x61)), SessionError);
  // Few bytes that stand for many.
  assert.throws(() => read(framed(`a${'*~'.repeat(12_000)}`)), SessionError);
});
