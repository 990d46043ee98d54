// The films of the catalogue: a copy of Python's list, which is the only source. It is kept in
// memory for reading and in SQLite for a start without Python.
import type { Database } from "../db/database.ts";

export type Film = { id: string; title: string; year: number | null; genres: string[]; likes: number };

export class FilmList {
  readonly #database: Database;
  readonly #sql;
  #films: Film[] = [];
  #titles: string[] = [];
  #byId = new Map<string, Film>();

  constructor(database: Database) {
    this.#database = database;
    this.#sql = {
      all: database.statement<{ films: string }>(
        "catalogue_all",
        "SELECT films FROM catalogue_pages ORDER BY number LIMIT 1000",
      ),
      clear: database.statement("catalogue_clear", "DELETE FROM catalogue_pages"),
      add: database.statement("catalogue_add", "INSERT INTO catalogue_pages (number, films) VALUES (?, ?)"),
    };
    this.#use(this.#sql.all.all().map(({ films }) => JSON.parse(films) as Film[]));
  }

  get size(): number {
    return this.#films.length;
  }

  get(id: string): Film | undefined {
    return this.#byId.get(id);
  }

  /** The films whose title holds every word, in the genre where one is given, most liked first. */
  find(query: string, genre: string | undefined, offset: number, limit: number) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#films.filter(
      (film, index) =>
        words.every((word) => this.#titles[index]!.includes(word)) && (!genre || film.genres.includes(genre)),
    );
    return { items: found.slice(offset, offset + limit), total: found.length };
  }

  /** Takes the pages in place of all that was known. */
  replace(pages: Film[][]) {
    this.#database.transaction(() => {
      this.#sql.clear.run();
      for (const [number, films] of pages.entries()) this.#sql.add.run(number, JSON.stringify(films));
    });
    this.#use(pages);
  }

  #use(pages: Film[][]) {
    this.#films = pages.flat();
    this.#titles = this.#films.map((film) => film.title.toLowerCase());
    this.#byId = new Map(this.#films.map((film) => [film.id, film]));
  }
}
