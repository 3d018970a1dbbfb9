import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder } from '../src/cache.ts';
import { packageRoot } from '../src/package-root.ts';
import { pruneOldest } from './image/prune.ts';

/**
 * The daemons and the command as JavaScript: compiled, because stripping types costs each process 18 MB of memory,
 * and bundled, because an image with node_modules is many times larger and starts slower.
 */

/** Name of the bundle → its entry. Code that several share is in chunks beside them. */
const entries = {
  agent: 'src/agent/main.ts',
  operator: 'src/operator/main.ts',
  'clustermesh-apiserver': 'src/clustermesh/main.ts',
  cli: 'src/cli/main.ts',
} as const;

/** Folder with `<name>.mjs` for each daemon and the command; the same sources give the same files. */
export async function bundle(): Promise<string> {
  const folder = cacheFolder('build', `bundle-${await sourcesKey()}`);
  if (existsSync(folder)) return folder;

  const temporary = `${folder}.${process.pid}.new`;
  // Loaded only here: starting it takes longer than all the rest when nothing has changed.
  const { build } = await import('esbuild');
  try {
    const { outputFiles } = await build({
      absWorkingDir: packageRoot,
      entryPoints: Object.entries(entries).map(([name, entry]) => ({ in: entry, out: name })),
      outdir: temporary,
      outExtension: { '.js': '.mjs' },
      bundle: true,
      splitting: true,
      format: 'esm',
      platform: 'node',
      target: 'node26',
      // Whitespace only: names stay, so that a stack trace can be read.
      minifyWhitespace: true,
      legalComments: 'none',
      // It finds its native module from its own place; it is not JavaScript that could be bundled.
      // esbuild is only for making images in a clone.
      external: ['koffi', 'esbuild'],
      // Names of chunks depend on paths of modules; these should not depend on what is a link.
      preserveSymlinks: true,
      // Some dependencies are CommonJS and ask for built-in modules by require.
      banner: { js: requireForBundled },
      write: false,
      logLevel: 'silent',
    });
    await mkdir(temporary, { recursive: true });
    for (const file of outputFiles) await writeFile(file.path, file.contents);
    await rename(temporary, folder).catch((error: unknown) => {
      // Another process made the same meanwhile.
      if (!existsSync(folder)) throw error;
    });
    await pruneOldest(cacheFolder('build'), 'bundle', 5);
    return folder;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

const requireForBundled =
  "import { createRequire as createRequireForBundled } from 'node:module';" +
  'const require = createRequireForBundled(import.meta.url);';

async function sourcesKey(): Promise<string> {
  const hash = createHash('sha256').update(await readFile(join(packageRoot, 'package-lock.json')));
  for (const folder of ['src', 'deploy']) {
    const all = await readdir(join(packageRoot, folder), { recursive: true });
    const code = all.filter(file => /\.(ts|js|json)$/.test(file) && !file.endsWith('.test.ts'));
    for (const file of code.sort()) {
      hash.update(`${folder}/${file}\n`).update(await readFile(join(packageRoot, folder, file)));
    }
  }
  return hash.digest('hex').slice(0, 16);
}
