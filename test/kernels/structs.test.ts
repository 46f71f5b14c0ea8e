// Structs of real kernels: members, offsets and sizes as pahole says.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { typeSubcommand } from '../../src/command/type.ts';
import { sizeOf, stripped } from '../../src/symbols/types.ts';
import { layout, layoutOfGdb } from './gdbLayout.ts';
import { architectures, Kernel, outputOf, seeded } from './kernel.ts';

const structs = 500;
const layouts = 100;

describe('structs, against pahole', () => {
  for (const architecture of architectures) {
    test(`${structs} of ${architecture}`, async () => {
      const kernel = await Kernel.of(architecture);
      const chosen = await kernel.answer(`pahole-${structs}`, async () => {
        const bodies = (await outputOf('pahole', [kernel.vmlinux])).split(/^(?=(?:struct|union) \w+ \{)/m);
        const random = seeded(1);
        const some = new Set<string>();
        while (some.size < structs) some.add(bodies[random(bodies.length)] ?? '');
        return [...some].join('');
      });
      const image = kernel.open();
      try {
        let compared = 0;
        let members = 0;
        const missing: string[] = [];
        for (const body of chosen.split(/^(?=(?:struct|union) \w+ \{)/m)) {
          const [, tag, name = ''] = /^(struct|union) (\w+) \{/.exec(body) ?? [];
          if (tag === undefined) continue;
          const type = image.typeNamed(tag as 'struct' | 'union', name);
          if (type === undefined) {
            missing.push(`${tag} ${name}`);
            continue;
          }
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
        assert.deepEqual(missing, []);
        assert.ok(compared > 0.95 * structs && members > 3 * compared, `${compared} structs, ${members} members`);
      } finally {
        image.close();
      }
    });

    test(`${layouts} of ${architecture} with all that is in them, against gdb`, async () => {
      const kernel = await Kernel.of(architecture);
      const answers = await kernel.answer(`gdb-layouts-${layouts}`, () => askGdb(kernel));
      const image = kernel.open();
      let bitFields = 0;
      try {
        const texts = answers.split(/^@/m).slice(1);
        assert.equal(texts.length, layouts);
        for (const text of texts) {
          const [name = '', ...lines] = text.split('\n');
          const type = image.typeNamed('struct', name);
          assert.ok(type !== undefined, name);
          const theirs = [...layoutOfGdb(lines.join('\n'))];
          assert.deepEqual([...layout(type)], theirs, name);
          bitFields += theirs.filter((line) => line.includes(' : ')).length;
        }
      } finally {
        image.close();
      }
      assert.ok(bitFields > 50, `${bitFields} bit fields`);
    });
  }
});

test('kvm-debug symbols type: elements without a name of their type are shown with their members, as gdb does', async () => {
  const image = (await Kernel.of('arm64')).open();
  try {
    const answer = await typeSubcommand.run(image, ['assoc_array_edit']);
    const text = answer.text().map((line) => line.trim());
    const start = text.findIndex((line) => /\|\s+32 \*\/ +struct \{/.test(line));
    assert.match(text[start + 1] ?? '', /^\/\*\s+0 \|\s+8 \*\/ +struct assoc_array_ptr \*\*ptr;$/);
    assert.equal(text[start + 3], '} set[2];');
    const { members } = answer.json() as { members: { name: string; members?: { name: string }[] }[] };
    const set = members.find(({ name }) => name === 'set');
    assert.deepEqual(
      set?.members?.map(({ name }) => name),
      ['ptr', 'to'],
    );
  } finally {
    image.close();
  }
});

/** Structs of one definition each, most of them with bit fields, which pahole shows. */
async function askGdb(kernel: Kernel): Promise<string> {
  const bodies = (await outputOf('pahole', [kernel.vmlinux])).split(/^(?=(?:struct|union) \w+ \{)/m);
  const names = (wanted: (body: string) => boolean): string[] =>
    bodies.filter(wanted).flatMap((body) => /^struct (\w+) \{/.exec(body)?.[1] ?? []);
  const seen = new Map<string, number>();
  for (const name of names(() => true)) seen.set(name, (seen.get(name) ?? 0) + 1);
  const isOnce = new Set([...seen].filter(([, times]) => times === 1).map(([name]) => name));
  const random = seeded(2);
  const chosen = new Set<string>();
  const draw = (from: readonly string[], upTo: number): void => {
    while (chosen.size < upTo) chosen.add(from[random(from.length)] ?? '');
  };
  draw(
    names((body) => /\w:\d+;/.test(body)).filter((name) => isOnce.has(name)),
    layouts / 2,
  );
  draw([...isOnce], layouts);
  const commands = [...chosen].flatMap((name) => ['-ex', `echo \\n@${name}\\n`, '-ex', `ptype /o struct ${name}`]);
  const options = ['-nx', '-batch', '-iex', 'set debuginfod enabled off', '-ex', 'set width 0'];
  return outputOf('gdb-multiarch', [...options, ...commands, kernel.vmlinux]);
}
