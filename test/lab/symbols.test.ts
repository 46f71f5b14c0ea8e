// The debug information of a real kernel, read by us and by tools that others wrote.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { before, describe, test } from 'node:test';
import { SymbolFile } from '../../src/symbols/image.ts';
import { sizeOf, stripped } from '../../src/symbols/types.ts';
import { reportProgress } from './cache.ts';
import { vmlinux } from './lab.ts';
import { type ToolCommand, tool } from './tools.ts';

const structs = 500;

function output({ argv, env }: ToolCommand, ...args: readonly string[]): string {
  const [program = '', ...words] = argv;
  return execFileSync(program, [...words, ...args], { env, encoding: 'utf8', maxBuffer: 1 << 30 });
}

/** A generator of numbers that is the same each time (Numerical Recipes, "quick and dirty"). */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe('debug information of a real kernel', { timeout: 600_000 }, () => {
  let path: string;
  before(async () => {
    path = (await vmlinux()).file;
  });

  test(`${structs} structs lie as pahole says`, async () => {
    const pahole = await tool('pahole', reportProgress);
    const bodies = output(pahole, path).split(/^(?=(?:struct|union) \w+ \{)/m);
    const random = seeded(1);
    const chosen = new Set<string>();
    while (chosen.size < structs) chosen.add(bodies[random(bodies.length)] ?? '');
    const image = SymbolFile.open(path, { cacheFolder: join(dirname(path), 'symbols') });
    try {
      image.names?.build();
      let compared = 0;
      let members = 0;
      for (const body of chosen) {
        const [, name = ''] = /^struct (\w+) \{/.exec(body) ?? [];
        const type = image.typeNamed('struct', name);
        if (type === undefined) continue;
        const real = stripped(type);
        if (!('members' in real)) continue;
        const [, size = '-1'] = /\/\* size: (\d+),/.exec(body) ?? [];
        // A name may stand for several structs: the one that both chose is compared.
        if (Number(size) !== sizeOf(type)) continue;
        const theirs = [
          ...body.matchAll(/^\t[^\t}].*?(\w+)(?:\[.*\])?(?: __attribute__\(.*\))?; +\/\* +(\d+) +(\d+) \*\//gm),
        ];
        const ours = new Map(real.members.map((member) => [member.name, member]));
        for (const [, member = '', offset, bytes] of theirs) {
          const found = ours.get(member);
          assert.deepEqual(
            [found?.offset, found && sizeOf(found.type)],
            [Number(offset), Number(bytes)],
            `${name}.${member}`,
          );
          members++;
        }
        compared++;
      }
      assert.ok(compared > 0.8 * structs && members > 3 * compared, `${compared} structs, ${members} members`);
    } finally {
      image.close();
    }
  });
});
