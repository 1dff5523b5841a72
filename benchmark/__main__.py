from benchmark.cli import main

if __name__ == "__main__":  # not in the processes of --jobs, which import it
    main()
