// package.json is what VS Code shows of launch.json: complete, and the same for launch and attach where they share.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import {
  breakpointModes,
  consoles,
  exitTraps,
  missingSources,
  parseAttach,
  parseLaunch,
  vmmKinds,
  vmmNames,
} from '../../src/dap/arguments.ts';
import { initialConfigurations } from '../../src/extension/configurations.ts';

interface Field {
  type: string | string[];
  markdownDescription?: string;
  enum?: string[];
  enumDescriptions?: string[];
  default?: unknown;
  examples?: unknown[];
}
type Properties = Record<string, Field>;
interface Debugger {
  type: string;
  languages: string[];
  configurationAttributes: Record<'launch' | 'attach', { properties: Properties }>;
  initialConfigurations?: unknown;
  configurationSnippets: { label: string; description: string; body: Record<string, unknown> }[];
}

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  contributes: {
    breakpoints: { language: string }[];
    debuggers: [Debugger];
    languages: { id: string }[];
    viewsWelcome: { when: string }[];
    walkthroughs: { steps: { id: string; completionEvents: string[] }[] }[];
  };
};
const [kvm] = manifest.contributes.debuggers;
const launch = kvm.configurationAttributes.launch.properties;
const attach = kvm.configurationAttributes.attach.properties;
const fields = [...Object.entries(launch), ...Object.entries(attach)];

describe('package.json', () => {
  it('describes every field of launch.json, and every value of those with a choice', () => {
    for (const [name, field] of fields) {
      assert.ok(field.markdownDescription, name);
      assert.equal(field.enumDescriptions?.length, field.enum?.length, name);
      // Completion offers all there is of a choice and of true and false; of anything else what examples show.
      if (!field.enum && field.type !== 'boolean') assert.ok(field.examples?.length, name);
      // A command line stands for the VMM and the fields that go with it: there is no usual one.
      if (name !== 'command') assert.notEqual(field.default, undefined, name);
    }
  });

  it('gives the defaults that the adapter has', () => {
    // Without these VS Code looks for files, and asks for the process.
    const found = ['kernel', 'symbols', 'cwd', 'pid', 'remote', 'command'];
    const parse = (properties: Properties, values: object) =>
      properties === launch ? parseLaunch({ kernel: 'Image', ...values }) : parseAttach({ pid: 1, ...values });
    for (const properties of [launch, attach]) {
      for (const [name, field] of Object.entries(properties)) {
        if (found.includes(name)) continue;
        if (name === 'missingSources') continue; // the extension's own: see configuration.ts
        assert.deepEqual(parse(properties, { [name]: field.default }), parse(properties, {}), name);
      }
    }
  });

  it('gives examples that the adapter takes', () => {
    const base = (name: string) => (name === 'command' ? {} : { kernel: 'Image' });
    for (const [name, { examples = [] }] of Object.entries(launch)) {
      for (const example of examples)
        assert.deepEqual(parseLaunch({ ...base(name), [name]: example }).ignored, [], name);
    }
    for (const [name, { examples = [] }] of Object.entries(attach)) {
      for (const example of examples) {
        if (name === 'pid' && typeof example === 'string') continue; // a variable, which VS Code replaces
        const base = name === 'remote' ? {} : { pid: 1 };
        assert.deepEqual(parseAttach({ ...base, [name]: example }).ignored, [], name);
      }
    }
  });

  it('requires no field that VS Code finds', () => {
    for (const request of Object.values(kvm.configurationAttributes)) {
      assert.deepEqual(Object.keys(request), ['properties']);
    }
  });

  it('says the same of what launch and attach share', () => {
    const shared = Object.keys(launch).filter((name) => name in attach);
    assert.ok(shared.length > 0);
    for (const name of shared) assert.deepEqual(launch[name], attach[name], name);
  });

  it('offers configurations of known fields only', () => {
    const common = ['type', 'request', 'name'];
    // VS Code would put static ones into a new launch.json before those that the extension makes.
    assert.equal(kvm.initialConfigurations, undefined);
    for (const offered of [...initialConfigurations(undefined), ...kvm.configurationSnippets.map(({ body }) => body)]) {
      const known = [...common, ...Object.keys(offered.request === 'attach' ? attach : launch)];
      for (const name of Object.keys(offered)) assert.ok(known.includes(name), name);
      if (offered.request === 'launch')
        parseLaunch(offered); // throws where the adapter would refuse it
      else if (offered.remote === undefined)
        assert.throws(() => parseAttach(offered), /"pid"/); // still the variable that asks
      else parseAttach({ ...offered, remote: offered.remote.replace(/^\$\{1:(.*)\}$/, '$1') });
    }
  });

  it('has a snippet for each way to start', () => {
    const ways = kvm.configurationSnippets.map(({ label, description, body }) => {
      assert.match(label, /^KVM: /);
      assert.match(description, /\.$/);
      const [way] = ['command', 'pid', 'remote'].filter((name) => name in body);
      return `${body.request} ${body.vmm ?? way}`;
    });
    assert.deepEqual(ways, ['launch kvmtool', 'launch qemu', 'launch command', 'attach pid', 'attach remote']);
  });

  it('offers the choices and fields that the adapter takes', () => {
    assert.deepEqual(launch.vmm?.enum, [...vmmKinds]);
    assert.deepEqual(launch.breakpointMode?.enum, [...breakpointModes]);
    assert.deepEqual(launch.console?.enum, [...consoles]);
    assert.deepEqual(launch.exitTrap?.enum, [...exitTraps]);
    assert.deepEqual(launch.missingSources?.enum, [...missingSources]);
    // What neither parser looks at would be offered in vain.
    const read = new Set<string>();
    const get = (target: object, name: string | symbol): unknown => {
      read.add(String(name));
      return Reflect.get(target, name);
    };
    const seen = (values: object) => new Proxy(values, { get });
    parseLaunch(seen({ kernel: 'Image' }));
    parseLaunch(seen({ command: ['vmm'] }));
    parseAttach(seen({ pid: 1 }));
    parseAttach(seen({ remote: ':1' }));
    assert.deepEqual(
      fields.map(([name]) => name).filter((name) => !read.has(name)),
      ['lab'], // the extension's own: see demo.ts
    );
    assert.deepEqual(
      [...read].filter((name) => !(name in launch) && !(name in attach)),
      [],
    );
  });

  it('has breakpoints in the same languages as the debugger, its own assembly among them', () => {
    const breakpoints = manifest.contributes.breakpoints.map(({ language }) => language);
    assert.deepEqual(breakpoints, kvm.languages);
    const own = manifest.contributes.languages.map(({ id }) => id);
    assert.deepEqual(
      own.filter((id) => !breakpoints.includes(id)),
      ['kernel-log'],
    );
  });

  it('welcomes in the languages of the debugger', () => {
    for (const { when } of manifest.contributes.viewsWelcome) {
      const languages = /^debugStartLanguage =~ \/\^\((.*)\)\$\/$/.exec(when)?.[1]?.split('|');
      assert.deepEqual(languages, kvm.languages);
    }
  });

  it('names all programs that are looked for', () => {
    for (const name of vmmNames.kvmtool) {
      for (const field of ['vmm', 'vmmPath'])
        assert.ok(launch[field]?.markdownDescription?.includes(`\`${name}\``), name);
    }
    assert.ok(launch.vmmPath?.markdownDescription?.includes(`\`${vmmNames.qemu[0]}\``));
  });

  it('completes steps of the walkthrough by events that VS Code has', () => {
    // contributes.walkthroughs in its documentation of contribution points
    const event = /^(on(Command|Link|View|Settings?Changed|Context|StepSelected)\b|extensionInstalled:)/;
    const steps = manifest.contributes.walkthroughs.flatMap((walkthrough) => walkthrough.steps);
    for (const { id, completionEvents } of steps) for (const each of completionEvents) assert.match(each, event, id);
  });

  it('has a README whose links lead to what is packed', () => {
    const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
    // Pictures are packed as the README has them (packaging/vsix.ts).
    const links = [...readme.matchAll(/(?<!!)\[[^\]]*\]\(([\w/.-]+)\)/g)].map(([, path]) => path);
    assert.deepEqual(links, ['LICENSE']);
  });

  it('names every package at one exact version', () => {
    for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
      assert.match(version, /^\d+\.\d+\.\d+$/, name);
    }
  });
});
