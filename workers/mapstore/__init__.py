"""The MapStore: which ids make up a record, in one PostgreSQL table. It can check no MAC and reach no other store."""
