import { type ChildProcess, spawn } from 'node:child_process';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Obtain } from './binaries.ts';
import type { BinaryName, Component, Package } from './binary-catalog.ts';
import { goCommand, goEnvironment } from './go-command.ts';

/** Builds executables from the pinned Go module: static, without paths of this machine in them. */
export const buildBinaries: Obtain = async (
  component,
  version,
  names,
  folder,
  { report, modules, signal },
) => {
  const cwd = join(modules, component.folder);
  const tests = names.filter(name => packageOf(component, name).test);
  const programs = names.filter(name => !tests.includes(name));
  const pathsOf = (of: readonly BinaryName[]): string[] => of.map(name => packageOf(component, name).path);
  const title = `${component.name} ${version}`;

  const command = await goCommand(report, signal);
  const runGo = (parameters: readonly string[], onLine: (line: string) => void): Promise<string[]> =>
    go(command, parameters, cwd, signal, onLine);
  report(`${title}: fetching Go modules`);
  let downloads = 0;
  const list = ['list', '-deps', ...(tests.length > 0 ? ['-test'] : []), '-f', '{{.ImportPath}}'];
  const listed = await runGo([...list, ...pathsOf(names)], line => {
    if (line.startsWith('go: downloading')) {
      downloads += 1;
      if (downloads % 25 === 0) report(`${title}: ${downloads} Go modules fetched`);
    }
  });
  const total = listed.length;

  report(`${title}: building ${names.join(', ')} (${total} packages; once, later runs use the cache)`);
  let built = 0;
  let reported = Date.now();
  const flags = ['-s', '-w', ...component.linkerFlags(version)].join(' ');
  const count = (line: string): void => {
    if (line.startsWith('go: ') || line.includes(' ')) return;
    built += 1;
    if (Date.now() - reported < 5000) return;
    reported = Date.now();
    // Packages that the Go build cache has are not named, so the count may end below the total.
    report(`${title}: ${built} of ${total} packages`);
  };
  const common = ['-v', '-trimpath', '-ldflags', flags, '-o'];
  if (programs.length > 0) await runGo(['build', ...common, `${folder}/`, ...pathsOf(programs)], count);
  for (const name of tests)
    await runGo(['test', '-c', '-vet=off', ...common, join(folder, name), ...pathsOf([name])], count);
  for (const name of programs) {
    const made = outputOf(component, name);
    if (made !== name) await rename(join(folder, made), join(folder, name));
  }
  report(`${title}: built`);
  return names;
};

function packageOf(component: Component, name: BinaryName): Package {
  const found = component.packages[name];
  if (!found) throw new Error(`${component.name} has no package for '${name}'`);
  return found;
}

/** `go build` names an executable after its package's last element that is not a major version, or after the module. */
function outputOf(component: Component, name: BinaryName): string {
  const { path, output } = packageOf(component, name);
  if (output !== undefined || path === '.') return output ?? name;
  const elements = path.split('/').filter(element => !/^v\d+$/.test(element));
  return elements.at(-1) ?? name;
}

/** Runs the go command, hands each line of its standard error on, returns the lines of its standard output. */
async function go(
  command: string,
  parameters: readonly string[],
  cwd: string,
  signal: AbortSignal | undefined,
  onLine: (line: string) => void,
): Promise<string[]> {
  const child = spawn(command, parameters, {
    cwd,
    env: goEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(signal ? { signal } : {}),
  });
  const output: string[] = [];
  const last: string[] = [];
  createInterface({ input: child.stdout }).on('line', line => output.push(line));
  createInterface({ input: child.stderr }).on('line', line => {
    last.push(line);
    if (last.length > 15) last.shift();
    onLine(line);
  });
  const code = await ended(child);
  if (code !== 0)
    throw new Error(`go ${parameters[0]} in ${cwd} failed (exit ${code}):\n    ${last.join('\n    ')}`);
  return output;
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', done);
  });
}
