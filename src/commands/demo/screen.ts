/** Where the demo is drawn: in place on a terminal, one line every tenth of the ballots elsewhere. */
import type { WriteStream } from 'node:tty';
import { describeScene, drawScene, type Scene } from './picture.ts';

/** As often as an eye needs, however many ballots pass. */
const FRAME_MS = 50;
const LEAST_ROWS = 14;
const LEAST_COLUMNS = 50;

const HIDE_CURSOR = '\x1b[?25l';
const SHOW_CURSOR = '\x1b[?25h';
// A terminal that knows these shows all between them at once; the others ignore them.
const BEGIN_FRAME = '\x1b[?2026h';
const END_FRAME = '\x1b[?2026l';
const CLEAR_REST_OF_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const CLEAR_ALL = '\x1b[H\x1b[2J';

export interface Screen {
  /** A line that stays. */
  say(line: string): void;
  /** Draws what `look` says, again and again. The result stops that after a last time; calling it again does nothing. */
  draw(look: () => Scene): () => void;
  /** Gives the terminal back as it was, whenever that is. */
  restore(): void;
}

export type Output = NodeJS.WritableStream & Partial<Pick<WriteStream, 'isTTY' | 'columns' | 'rows'>>;
export type Environment = Readonly<Record<string, string | undefined>>;

export function openScreen(output: Output, env: Environment): Screen {
  const isTerminal = output.isTTY === true && env.TERM !== 'dumb';
  const isLargeEnough = (output.rows ?? 0) >= LEAST_ROWS && (output.columns ?? 0) >= LEAST_COLUMNS;
  return isTerminal && isLargeEnough ? drawInPlace(output, env) : drawLines(output);
}

function drawInPlace(output: Output, env: Environment): Screen {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || 'UTF-8';
  const isUnicode = /utf-?8/i.test(locale);
  const isColored = !env.NO_COLOR;
  let isHidden = false;
  const restore = (): void => {
    if (isHidden) output.write(END_FRAME + SHOW_CURSOR);
    isHidden = false;
  };
  return {
    say: (line) => void output.write(`${line}\n`),
    draw(look) {
      let above = 0;
      let drawn = '';
      let start = '';
      const frame = (): void => {
        // One column less: a cursor behind the last one wraps on some terminals.
        const style = { columns: (output.columns ?? LEAST_COLUMNS) - 1, isUnicode, isColored };
        const lines = drawScene(look(), style).slice(0, (output.rows ?? LEAST_ROWS) - 1);
        const text = lines.map((line) => `${line}${CLEAR_REST_OF_LINE}\n`).join('');
        if (text === drawn && start === '') return;
        const up = start === '' && above > 0 ? `\x1b[${above}A` : '';
        output.write(`${BEGIN_FRAME}${start}${up}\r${text}${CLEAR_BELOW}${END_FRAME}`);
        above = lines.length;
        drawn = text;
        start = '';
      };
      // Old lines may have been wrapped anew: where they begin is not known any more.
      const onResize = (): void => {
        start = CLEAR_ALL;
      };
      output.write(HIDE_CURSOR);
      isHidden = true;
      output.on('resize', onResize);
      const timer = setInterval(frame, FRAME_MS);
      frame();
      let isOver = false;
      return () => {
        if (isOver) return;
        isOver = true;
        clearInterval(timer);
        output.off('resize', onResize);
        frame();
        restore();
      };
    },
    restore,
  };
}

function drawLines(output: Output): Screen {
  const say = (line: string): void => void output.write(`${line}\n`);
  return {
    say,
    draw(look) {
      let tenths = 0;
      const step = (): void => {
        const scene = look();
        const reached = Math.floor((scene.cast / scene.total) * 10);
        if (reached > tenths) say(describeScene(scene));
        tenths = reached;
      };
      const timer = setInterval(step, FRAME_MS);
      return () => {
        clearInterval(timer);
        step();
      };
    },
    restore() {},
  };
}
