// Why a guest behind a stub stopped (GDB manual, E.3 "Stop Reply Packets").

import { Gva } from '../../base/address.ts';
import type { ExitStatus } from '../target.ts';

/** GDB's own numbers of signals (include/gdb/signals.def), whatever the stub's system has. */
export const Signal = { int: 2, trap: 5 } as const;

export type StopReply =
  | {
      readonly kind: 'stopped';
      readonly signal: number;
      /** As the stub writes it; undefined when it does not say. */
      readonly thread: string | undefined;
      readonly watch: { readonly access: 'read' | 'write' | 'either'; readonly address: Gva } | undefined;
    }
  | { readonly kind: 'exited'; readonly status: ExitStatus };

//   S AA                  stopped by signal AA
//   T AA n:r;…            the same, and more: `thread` which; `watch`, `rwatch`, `awatch` the data address; `swbreak`,
//                         `hwbreak`; registers by number; others, which are to be ignored
//   W AA[;process:…]      exited with status AA
//   X AA[;process:…]      ended by signal AA
/** Undefined for what is no stop reply. */
export function parseStopReply(text: string): StopReply | undefined {
  const match = /^([STWX])([0-9a-f]{2})(.*)$/is.exec(text);
  if (!match) return undefined;
  const [, kind, digits = '', rest = ''] = match;
  const number = Number.parseInt(digits, 16);
  if (kind === 'W') return { kind: 'exited', status: { code: number, signal: undefined } };
  if (kind === 'X') return { kind: 'exited', status: { code: undefined, signal: number } };
  const pairs = kind === 'S' ? [] : rest.split(';').map((pair) => /^([^:]*):?(.*)$/s.exec(pair)?.slice(1) ?? []);
  const values = new Map(pairs.map(([name = '', value = '']) => [name, value]));
  return { kind: 'stopped', signal: number, thread: values.get('thread') || undefined, watch: watchOf(values) };
}

const accesses = { watch: 'write', rwatch: 'read', awatch: 'either' } as const;

function watchOf(values: ReadonlyMap<string, string>): Extract<StopReply, { kind: 'stopped' }>['watch'] {
  for (const [name, access] of Object.entries(accesses)) {
    const address = values.get(name);
    if (address !== undefined && /^[0-9a-f]{1,16}$/i.test(address)) {
      return { access, address: Gva(BigInt(`0x${address}`)) };
    }
  }
  return undefined;
}
