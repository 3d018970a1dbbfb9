import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { down } from '../../src/lab/lab.ts';
import { mixedLab } from './mixed-lab.ts';

const usage = `usage: npm run interop [-- OPTION…] [FILE…]

Joins a cluster of Isthmus with a cluster of real Cilium in a lab and runs the tests of test/interop there.

  --max-clusters 255|511   size of the mesh (default 255)
  --lab NAME               name of the lab (default interop); one that is up is used as it is
  --keep                   leave the lab up
`;

/** `npm run interop`: makes the lab, runs the test files one after another, takes the lab down. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'max-clusters': { type: 'string', default: '255' },
      lab: { type: 'string', default: 'interop' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const max = values['max-clusters'];
  if (values.help || (max !== '255' && max !== '511')) {
    process.stdout.write(usage);
    return values.help ? 0 : 2;
  }
  const name = values.lab;
  process.env.KUBECONFIG ??= `/tmp/isthmus-${name}.kubeconfig`;
  const report = (line: string): void => console.error(line);
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort());
  const files = positionals.length ? positionals : globSync(join(import.meta.dirname, '*.test.ts')).sort();
  try {
    const maxClusters = max === '511' ? 511 : 255;
    await mixedLab({ name, maxClusters, report, signal: interrupt.signal });
    const tests = spawn(
      process.execPath,
      ['--test', '--test-concurrency=1', '--test-timeout=900000', ...files],
      {
        stdio: 'inherit',
        env: { ...process.env, ISTHMUS_TEST_LAB: name, ISTHMUS_TEST_ATTACH: '1' },
        signal: interrupt.signal,
      },
    );
    const [code] = (await once(tests, 'exit')) as [number | null];
    return code ?? 1;
  } finally {
    if (!values.keep) await down({ name, report });
  }
}

process.exitCode = await main();
