// Bundles the programs of the package into dist/. koffi stays external (esbuild cannot bundle a native addon);
// everything else is inside the bundles. dist/ is CommonJS, which both plain Node and VS Code's runtime load.
import { copyFileSync, cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
mkdirSync('dist', { recursive: true });
writeFileSync('dist/package.json', `${JSON.stringify({ type: 'commonjs' })}\n`);
// Capstone looks for its code beside the program it is in; only its CommonJS form can be bundled as CommonJS.
const capstone = './node_modules/capstone-wasm/dist';
copyFileSync(`${capstone}/capstone.wasm`, 'dist/capstone.wasm');
// What goes into the lab as it is.
for (const file of ['host/agent.cjs', 'host/init', 'host/main', 'guest/init']) cpSync(`lab/${file}`, `dist/${file}`);
await build({
  entryPoints: {
    adapter: 'src/adapter.ts',
    cli: 'src/cli.ts',
    console: 'src/console.ts',
    guardian: 'src/guardian.ts',
    indexer: 'src/indexer.ts',
    lab: 'lab/program.ts',
    extension: 'src/extension/extension.ts',
  },
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  external: ['koffi', 'vscode'],
  define: { 'import.meta.dirname': '__dirname' },
  alias: { 'capstone-wasm': `${capstone}/index.cjs` },
  // Names stay, and lines: they are what the stack in a bug report has.
  minifySyntax: true,
  minifyWhitespace: true,
  lineLimit: 120,
  sourcemap: true,
  logLevel: 'warning',
});
