/**
 * How the demo is told: every command is shown before it runs, with the output it really had; every
 * claim is checked; the end is a table of what was seen and how long it took.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { styleText } from 'node:util';
import Table from 'cli-table3';

export interface Seen {
  readonly what: string;
  readonly seen: string;
  readonly ok: boolean;
  readonly seconds: number;
}

export class Story {
  readonly seen: Seen[] = [];
  readonly #env: NodeJS.ProcessEnv;
  readonly #began = performance.now();

  constructor(env: NodeJS.ProcessEnv) {
    this.#env = env;
  }

  chapter(title: string): void {
    const at = ((performance.now() - this.#began) / 1000).toFixed(0);
    process.stdout.write(`\n${styleText('bold', `### ${title}`)} ${styleText('dim', `(${at} s)`)}\n\n`);
  }

  say(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  /** Shows and runs a command; resolves to its standard output; rejects with its error output when it fails. */
  run(command: string, args: readonly string[], options: { quiet?: boolean } = {}): Promise<string> {
    const shown = [command, ...args].map(quote).join(' ');
    if (!options.quiet) process.stdout.write(`${styleText('cyan', `$ ${shown}`)}\n`);
    const child = spawn(command, args, { env: this.#env, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk;
      if (!options.quiet) process.stdout.write(chunk);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk;
      if (!options.quiet) process.stdout.write(styleText('dim', String(chunk)));
    });
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    child.once('error', reject);
    child.once('close', code => {
      if (code === 0) resolve(out);
      else reject(new Error(`${shown} ended with ${code}: ${(err || out).trim().slice(-2000)}`));
    });
    return promise;
  }

  /** Starts a command whose output lines are handed on as they come, with their time. */
  follow(command: string, args: readonly string[], line: (text: string, at: number) => void): ChildProcess {
    const child = spawn(command, args, { env: this.#env, stdio: ['ignore', 'pipe', 'inherit'] });
    createInterface({ input: child.stdout! }).on('line', text => line(text, performance.now()));
    return child;
  }

  /** Like claim(), for what everything after stands on: throws where it did not hold. */
  async need(what: string, check: () => Promise<{ seen: string; ok: boolean }>): Promise<void> {
    await this.claim(what, check);
    if (!this.seen.at(-1)?.ok) throw new Error(`the story ends here: ${what} did not come true`);
  }

  /** Runs one claim; what it returns is what was seen. A thrown error is a claim that did not hold. */
  async claim(what: string, check: () => Promise<{ seen: string; ok: boolean }>): Promise<void> {
    const began = performance.now();
    let row: Seen;
    try {
      row = { what, ...(await check()), seconds: (performance.now() - began) / 1000 };
    } catch (error) {
      const seen = error instanceof Error ? error.message : String(error);
      row = { what, seen, ok: false, seconds: (performance.now() - began) / 1000 };
    }
    this.seen.push(row);
    const mark = row.ok ? styleText('green', '✔') : styleText('red', '✘');
    process.stdout.write(`\n${mark} ${what}: ${row.seen}\n`);
  }

  /** Prints the table; true when everything was as told. */
  end(): boolean {
    const table = new Table({
      head: ['', 'what', 'seen', 'took'],
      style: { head: [], border: [] },
      colWidths: [3, 46, 58, 9],
      wordWrap: true,
    });
    for (const { what, seen, ok, seconds } of this.seen)
      table.push([ok ? '✔' : '✘', what, seen, `${seconds.toFixed(1)} s`]);
    process.stdout.write(`\n${table.toString()}\n`);
    return this.seen.every(each => each.ok);
  }
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
